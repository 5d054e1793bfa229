/* A child that tells when it is ready and when SIGTERM reached it.
 *
 *     receiver READY LOG SAVE_SECONDS
 *
 * READY is a FIFO that gets one byte; LOG gets a line with CLOCK_MONOTONIC in ns.  Then it takes SAVE_SECONDS and exits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    int log = open(argv[2], O_WRONLY | O_APPEND | O_CLOEXEC);
    int ready = open(argv[1], O_WRONLY | O_CLOEXEC);
    if (log < 0 || ready < 0 || write(ready, "r", 1) != 1) return 1;
    int got;
    sigwait(&term, &got);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[32];
    int size = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(log, line, size) != size) return 1;
    double save = atof(argv[3]);
    struct timespec pause = {(time_t)save, (long)((save - (time_t)save) * 1e9)};
    nanosleep(&pause, NULL);
    return 0;
}
