// Run one launch out of a job file and write the buffers back: the executable that the sanitizers watch.
//
// Job, little endian: "GSJOB1\0\0", u32 kernel index, u32 argument count, GsLaunch, then for each argument
// u64 kind (GsParameter), u64 bytes, the bytes. A buffer is allocated with exactly its bytes, so that a step past
// its end is seen. The result file is the bytes of all buffers, in order.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "runtime.h"

extern "C" const GsKernel* gs_kernels();

static void need(void* into, size_t bytes, FILE* file) {
    if (bytes && fread(into, 1, bytes, file) != bytes) {
        fprintf(stderr, "driver: the job file is short\n");
        exit(3);
    }
}

int main(int argc, char** argv) {
    if (argc != 3) return 3;
    FILE* job = fopen(argv[1], "rb");
    if (!job) return 3;
    char magic[8];
    uint32_t head[2];
    GsLaunch launch;
    need(magic, 8, job);
    need(head, 8, job);
    need(&launch, sizeof(launch), job);
    if (memcmp(magic, "GSJOB1\0", 8)) return 3;
    std::vector<void*> pointers(head[1]), slots(head[1]);
    std::vector<uint64_t> kinds(head[1]), sizes(head[1]), scalars(head[1]);
    for (uint32_t i = 0; i < head[1]; ++i) {
        need(&kinds[i], 8, job);
        need(&sizes[i], 8, job);
        if (kinds[i] == GS_POINTER) {
            // 256 bytes: what a device allocation is aligned to at least.
            if (posix_memalign(&pointers[i], 256, sizes[i] ? sizes[i] : 1)) return 3;
            need(pointers[i], sizes[i], job);
            slots[i] = &pointers[i];
        } else {
            need(&scalars[i], sizes[i], job);
            slots[i] = &scalars[i];
        }
    }
    fclose(job);
    static char message[2048];
    if (gs_launch(gs_kernels() + head[0], &launch, slots.data(), message, sizeof(message))) {
        fprintf(stderr, "diagnosis: %s\n", message);
        fflush(stderr);
        _Exit(4);
    }
    FILE* result = fopen(argv[2], "wb");
    if (!result) return 3;
    for (uint32_t i = 0; i < head[1]; ++i)
        if (kinds[i] == GS_POINTER && sizes[i] && fwrite(pointers[i], 1, sizes[i], result) != sizes[i]) return 3;
    if (fclose(result)) return 3;
    for (void* pointer : pointers) free(pointer);
    return 0;
}
