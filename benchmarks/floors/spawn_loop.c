/* The limit for a launch rate: posix_spawn of `bash -c true` with stdout and stderr files, and no books at all.
 *
 *     spawn_loop JOBS AT_A_TIME DIRECTORY BASH
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int jobs = atoi(argv[1]), at_a_time = atoi(argv[2]), running = 0;
    char out[4096], err[4096];
    char *command[] = {argv[4], "-c", "true", NULL};
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    for (int job = 0; job < jobs; job++) {
        if (running == at_a_time) { wait(NULL); running--; }
        snprintf(out, sizeof out, "%s/%d.o", argv[3], job);
        snprintf(err, sizeof err, "%s/%d.e", argv[3], job);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        posix_spawn_file_actions_addopen(&files, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        pid_t pid;
        if (posix_spawn(&pid, command[0], &files, &attributes, command, environ)) return 1;
        posix_spawn_file_actions_destroy(&files);
        running++;
    }
    while (running--) wait(NULL);
    return 0;
}
