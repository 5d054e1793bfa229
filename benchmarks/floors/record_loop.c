/* The limit for "exit -> on record": fork, exec, wait, then one line appended to a file and synced.
 *
 *     record_loop COUNT JOURNAL TIMES PROGRAM [ARGUMENT...]
 *
 * TIMES gets a line "WRITTEN SYNCED" for each: CLOCK_MONOTONIC in ns after the write and after the fsync.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int journal = open(argv[2], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    FILE *times = fopen(argv[3], "we");
    if (journal < 0 || !times) return 1;
    static char line[300];
    for (unsigned i = 0; i < sizeof line; i++) line[i] = 'x';
    line[sizeof line - 1] = '\n';
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    for (int i = atoi(argv[1]); i > 0; i--) {
        pid_t pid;
        if (posix_spawn(&pid, argv[4], NULL, &attributes, argv + 4, environ)) return 1;
        waitpid(pid, NULL, 0);
        if (write(journal, line, sizeof line) != sizeof line) return 1;
        long long written = now();
        if (fsync(journal)) return 1;
        fprintf(times, "%lld %lld\n", written, now());
    }
    return fclose(times);
}
