/* The limit for a dependency hop: fork, exec and wait, one job after the other.
 *
 *     hop_loop COUNT PROGRAM [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    for (int i = atoi(argv[1]); i > 0; i--) {
        pid_t pid;
        if (posix_spawn(&pid, argv[2], NULL, &attributes, argv + 2, environ)) return 1;
        waitpid(pid, NULL, 0);
    }
    return 0;
}
