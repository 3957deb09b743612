// Planted: the tail's lanes leave before an exchange that names all of the warp.
extern "C" __global__ void planted(uint32_t* out, uint32_t count) {
    if (threadIdx.x >= count) return;
    out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
}
