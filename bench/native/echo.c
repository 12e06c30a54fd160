/* A plain echo server of u32be frames, the one that all others are measured against: one thread, epoll, no library.
 *
 *     buffer   | sent already | whole frames, to send | begun frame |            |
 *              0              start                   border        end          capacity
 *
 * One recv a wake-up, then the length of each frame is read, and whatever is whole leaves in one send. While the peer does not
 * take all of it, nothing more is read. The buffer is as large as a read, or as the frame that is at hand.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 4, READ_SIZE = 256 << 10, MAX_PAYLOAD = 16 << 20, MAX_EVENTS = 64, BACKLOG = 100 };

struct connection {
    int socket;
    bool blocked; /* waits until the peer takes what is to be sent */
    unsigned char *buffer;
    size_t capacity, start, border, end;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void hang_up(struct connection *peer)
{
    close(peer->socket);
    free(peer->buffer);
    free(peer);
}

/* Move the border behind the last whole frame, and make room for the one that has begun; false if that is too long. */
static bool find_border(struct connection *peer)
{
    while (peer->end - peer->border >= HEADER) {
        const unsigned char *field = peer->buffer + peer->border;
        size_t length = (size_t)field[0] << 24 | (size_t)field[1] << 16 | (size_t)field[2] << 8 | field[3];
        if (length > MAX_PAYLOAD)
            return false;
        if (peer->end - peer->border - HEADER < length) {
            size_t needed = peer->border + HEADER + length;
            if (needed > peer->capacity) {
                unsigned char *larger = realloc(peer->buffer, needed);
                if (larger == NULL)
                    return false;
                peer->buffer = larger;
                peer->capacity = needed;
            }
            break;
        }
        peer->border += HEADER + length;
    }
    return true;
}

/* Send what is whole, as much as the kernel takes; false if the connection is over. */
static bool answer(struct connection *peer)
{
    if (peer->start < peer->border) {
        ssize_t sent = send(peer->socket, peer->buffer + peer->start, peer->border - peer->start, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent > 0)
            peer->start += (size_t)sent;
    }
    if (peer->start == peer->border) {
        memmove(peer->buffer, peer->buffer + peer->border, peer->end - peer->border);
        peer->end -= peer->border;
        peer->start = peer->border = 0;
    }
    return true;
}

static bool receive(struct connection *peer)
{
    size_t room = peer->capacity - peer->end;
    ssize_t received = recv(peer->socket, peer->buffer + peer->end, room, 0);
    if (received < 0)
        return errno == EAGAIN;
    peer->end += (size_t)received;
    return received > 0 && find_border(peer);
}

static void greet(int epoll, int listener)
{
    int yes = 1, socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    struct connection *peer;
    struct epoll_event event = {.events = EPOLLIN};
    if (socket < 0)
        return;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    peer = calloc(1, sizeof *peer);
    if (peer == NULL || (peer->buffer = malloc(READ_SIZE)) == NULL)
        die("malloc");
    peer->socket = socket;
    peer->capacity = READ_SIZE;
    event.data.ptr = peer;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) < 0)
        die("epoll_ctl");
}

static void serve(int epoll, struct connection *peer)
{
    bool blocked;
    if (!(peer->blocked || receive(peer)) || !answer(peer)) {
        hang_up(peer);
        return;
    }
    blocked = peer->start < peer->border;
    if (blocked != peer->blocked) {
        struct epoll_event event = {.events = blocked ? EPOLLOUT : EPOLLIN, .data.ptr = peer};
        epoll_ctl(epoll, EPOLL_CTL_MOD, peer->socket, &event);
        peer->blocked = blocked;
    }
}

static int listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, BACKLOG) < 0)
        die("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(void)
{
    struct epoll_event events[MAX_EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
    int listener = listen_somewhere(), epoll = epoll_create1(0);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int at = 0; at < count; at++) {
            if (events[at].data.ptr == NULL)
                greet(epoll, listener);
            else
                serve(epoll, events[at].data.ptr);
        }
    }
}
