/* The one client of all echo servers: it sends frames, some of them outstanding, and compares every byte that comes back.
 *
 *     client SOCKET FRAMES WINDOW REQUESTS ANSWERS
 *
 * SOCKET is the number of a connected, blocking socket. The files REQUESTS and ANSWERS hold FRAMES frames each, all of the same
 * length, that are sent and expected over and over. For each number on a line of stdin so many frames are sent and awaited, and
 * a line says how many nanoseconds that took, and with a window of 1 the median and the 99th percentile of a frame.
 *
 * New frames are sent once half of the window has been answered. If they went out as soon as one was, a fast server would be
 * given few at a time and a slow one many, which are cheaper for each.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVE_SIZE = 256 << 10, PATIENCE = 30 }; /* PATIENCE: seconds for all of a line's frames */

struct ring {
    const char *bytes;
    size_t size, frame; /* of all frames, of one */
    size_t pos;         /* where the next byte is */
};

static int server;
static size_t window;
static struct ring requests, answers;
static char received[RECEIVE_SIZE];

static void fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    exit(1);
}

static void lose_patience(int number)
{
    static const char why[] = "no answer in time\n";
    (void)number;
    (void)!write(STDERR_FILENO, why, sizeof why - 1);
    _exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static struct ring open_ring(const char *path, size_t frames)
{
    struct ring ring = {0};
    struct stat status;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &status) < 0)
        fail("cannot open the frames");
    ring.size = (size_t)status.st_size;
    ring.frame = ring.size / frames;
    ring.bytes = mmap(NULL, ring.size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (ring.bytes == MAP_FAILED)
        fail("cannot map the frames");
    return ring;
}

/* Send up to `length` bytes, what the kernel takes now; return how many. */
static size_t send_some(size_t length)
{
    size_t straight = requests.size - requests.pos;
    struct iovec parts[2] = {{(char *)requests.bytes + requests.pos, straight}, {(char *)requests.bytes, 0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    if (length > requests.size)
        length = requests.size;
    if (length <= straight)
        parts[0].iov_len = length;
    else
        parts[1].iov_len = length - straight;
    sent = sendmsg(server, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        fail("the server has hung up");
    if (sent < 0)
        return 0;
    requests.pos = (requests.pos + (size_t)sent) % requests.size;
    return (size_t)sent;
}

/* Receive what is there, and compare it; return how many bytes. */
static size_t receive_some(int flags)
{
    ssize_t count = recv(server, received, RECEIVE_SIZE, flags);
    size_t done = 0;
    if (count == 0 || (count < 0 && errno != EAGAIN))
        fail("the server has hung up");
    while (count > 0 && done < (size_t)count) {
        size_t length = (size_t)count - done, straight = answers.size - answers.pos;
        if (length > straight)
            length = straight;
        if (memcmp(received + done, answers.bytes + answers.pos, length) != 0)
            fail("an answer is not what was sent");
        answers.pos = (answers.pos + length) % answers.size;
        done += length;
    }
    return done;
}

/* Send and receive at the same time until `count` frames were answered; note how long each took if there is one at a time. */
static void exchange(size_t count, uint64_t *latencies)
{
    size_t allowed = 0, sent = 0, got = 0, begun = now();
    while (got < count * answers.frame) {
        size_t answered = got / answers.frame, frames = answered + window < count ? answered + window : count;
        if (frames == count || frames * requests.frame - allowed >= (window + 1) / 2 * requests.frame)
            allowed = frames * requests.frame;
        if (sent < allowed) {
            struct pollfd either = {server, POLLIN | POLLOUT, 0};
            sent += send_some(allowed - sent);
            if (sent < allowed)
                poll(&either, 1, -1);
        }
        got += receive_some(sent < allowed ? MSG_DONTWAIT : 0);
        if (latencies != NULL && got / answers.frame > answered) {
            uint64_t ended = now();
            latencies[answered] = ended - begun;
            begun = ended;
        }
    }
    if (got != count * answers.frame)
        fail("more came back than was sent");
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    size_t count, frames;
    if (argc != 6 || sscanf(argv[1], "%d", &server) != 1 || sscanf(argv[2], "%zu", &frames) != 1
        || sscanf(argv[3], "%zu", &window) != 1 || frames == 0 || window == 0)
        fail("usage: client SOCKET FRAMES WINDOW REQUESTS ANSWERS");
    requests = open_ring(argv[4], frames);
    answers = open_ring(argv[5], frames);
    signal(SIGALRM, lose_patience);
    while (scanf("%zu", &count) == 1 && count > 0) {
        uint64_t *latencies = window == 1 ? malloc(count * sizeof *latencies) : NULL;
        uint64_t began, took, median = 0, slow = 0;
        alarm(PATIENCE);
        began = now();
        exchange(count, latencies);
        took = now() - began;
        alarm(0);
        if (latencies != NULL) {
            qsort(latencies, count, sizeof *latencies, compare);
            median = latencies[count / 2];
            slow = latencies[count * 99 / 100];
            free(latencies);
        }
        printf("%llu %llu %llu\n", (unsigned long long)took, (unsigned long long)median, (unsigned long long)slow);
        fflush(stdout);
    }
    return 0;
}
