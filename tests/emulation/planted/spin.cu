// Planted: a thread waits for a later block's flag.
extern "C" __global__ void planted(uint32_t* out) {
    if (blockIdx.x == 0u)
        while (atomicAdd(&out[0], 0u) == 0u) {
        }
    else
        atomicAdd(&out[0], 1u);
}
