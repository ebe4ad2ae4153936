/* Makes each sync of the server take longer: SLOW_SYNC_MS milliseconds more, as a disk that is busy would.
   Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_by(const char *name, int fd) {
    const char *milliseconds = getenv("SLOW_SYNC_MS");
    if (milliseconds)
        usleep(1000 * (unsigned)atoi(milliseconds));
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fdatasync(int fd) { return sync_by("fdatasync", fd); }
int fsync(int fd) { return sync_by("fsync", fd); }
