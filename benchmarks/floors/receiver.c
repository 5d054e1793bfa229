/* A child that tells when it is ready, when the signal reached it, and that it has saved.
 *
 *     receiver READY LOG SAVE_SECONDS
 *
 * READY is a FIFO that gets the pid in eight digits.  At SIGTERM (or SIGINT, which HyperQueue sends) LOG gets a line
 * "r" with CLOCK_MONOTONIC in ns.  Then it takes SAVE_SECONDS, if there are any writes a line "s" in the same way, exits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int stamp(int log, char what) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[40];
    int size = snprintf(line, sizeof line, "%c %lld\n", what, now.tv_sec * 1000000000LL + now.tv_nsec);
    return write(log, line, size) == size;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;  /* GNU parallel adds an empty one */
    sigset_t asked;
    sigemptyset(&asked);
    sigaddset(&asked, SIGTERM);
    sigaddset(&asked, SIGINT);
    sigprocmask(SIG_BLOCK, &asked, NULL);
    int log = open(argv[2], O_WRONLY | O_APPEND | O_CLOEXEC);
    int ready = open(argv[1], O_WRONLY | O_CLOEXEC);
    char pid[16];
    snprintf(pid, sizeof pid, "%08d", getpid());
    if (log < 0 || ready < 0 || write(ready, pid, 8) != 8) return 1;
    int got;
    sigwait(&asked, &got);
    if (!stamp(log, 'r')) return 1;
    double save = atof(argv[3]);
    if (save > 0) {
        struct timespec pause = {(time_t)save, (long)((save - (time_t)save) * 1e9)};
        nanosleep(&pause, NULL);
        if (!stamp(log, 's')) return 1;
    }
    return 0;
}
