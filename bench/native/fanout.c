/* The least that a room costs: what one sends goes to all, with one send for each, and nothing is looked at.
 *
 * One thread, epoll, no library. Who connects is greeted with a frame, and has from then on what anybody says. Who does not
 * take all of it at once is dropped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 256 << 10, MAX_EVENTS = 64, BACKLOG = 4096, MAX_MEMBERS = 100000 };

static int members[MAX_MEMBERS];
static int count;
static char buffer[READ_SIZE];
static const char GREETING[] = "\0\0\0\7welcome";

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Take out the member at a place, which the last one gets. */
static void drop(int place)
{
    close(members[place]);
    members[place] = members[--count];
}

static void welcome(int listener, int epoll)
{
    int on = 1;
    int member = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = member};
    if (member < 0)
        return;
    setsockopt(member, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (count == MAX_MEMBERS || epoll_ctl(epoll, EPOLL_CTL_ADD, member, &event) < 0) {
        close(member);
        return;
    }
    members[count++] = member;
    send(member, GREETING, sizeof GREETING - 1, MSG_NOSIGNAL);
}

static void pass_on(int speaker)
{
    ssize_t length = recv(speaker, buffer, sizeof buffer, 0);
    for (int place = count; place-- > 0;)
        if (length > 0 ? send(members[place], buffer, (size_t)length, MSG_NOSIGNAL) != length : members[place] == speaker)
            drop(place);
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[MAX_EVENTS];
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, BACKLOG) < 0
        || getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        die("listen");
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int at = 0; at < ready; at++)
            if (events[at].data.fd == listener)
                welcome(listener, epoll);
            else
                pass_on(events[at].data.fd);
    }
}
