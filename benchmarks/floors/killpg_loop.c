/* The limit for a fan-out: start COUNT children, each in a session of its own; on SIGTERM killpg each, wait for all.
 *
 *     killpg_loop COUNT SIGNAL PROGRAM [ARGUMENT...]
 *
 * SIGNAL is what the children get: 15 or 9.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int count = atoi(argv[1]), signum = atoi(argv[2]);
    pid_t *pids = calloc(count, sizeof *pids);
    sigset_t term, none;
    sigemptyset(&none);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &none);
    for (int i = 0; i < count; i++)
        if (posix_spawn(&pids[i], argv[3], NULL, &attributes, argv + 3, environ)) return 1;
    int got;
    sigwait(&term, &got);
    for (int i = 0; i < count; i++) killpg(pids[i], signum);
    for (int i = 0; i < count; i++) waitpid(pids[i], NULL, 0);
    return 0;
}
