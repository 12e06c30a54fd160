/* The plainest fast echo over UDP, for the benchmarks only: recvmmsg, sendmmsg, and not a look at the bytes. Linux.
 *
 * It prints `listening on udp 127.0.0.1:PORT` and echoes until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { BURST = 32, LONGEST = 65507, RECEIVE_BUFFER = 4 << 20 };

static char memory[BURST][LONGEST];
static struct mmsghdr messages[BURST];
static struct iovec vectors[BURST];
static struct sockaddr_in senders[BURST];

static int bound_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int size = RECEIVE_BUFFER, sock = socket(AF_INET, SOCK_DGRAM, 0);
    if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0 ||
        bind(sock, (struct sockaddr *)&address, length) < 0 || getsockname(sock, (struct sockaddr *)&address, &length) < 0)
        return -1;
    printf("listening on udp 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return sock;
}

static int receive(int sock)
{
    for (int at = 0; at < BURST; at++) {
        struct msghdr *header = &messages[at].msg_hdr;
        vectors[at] = (struct iovec){memory[at], LONGEST};
        memset(header, 0, sizeof(*header));
        header->msg_name = &senders[at];
        header->msg_namelen = sizeof(senders[at]);
        header->msg_iov = &vectors[at];
        header->msg_iovlen = 1;
    }
    return recvmmsg(sock, messages, BURST, MSG_WAITFORONE, NULL);
}

int main(void)
{
    int sock = bound_socket();
    while (sock >= 0) {
        int count = receive(sock);
        if (count < 0)
            break;
        for (int at = 0; at < count; at++)
            vectors[at].iov_len = messages[at].msg_len;
        sendmmsg(sock, messages, (unsigned int)count, 0);
    }
    perror("udp_echo");
    return 1;
}
