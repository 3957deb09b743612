// Planted: two blocks write one word, and with the same value, so that no output tells.
extern "C" __global__ void planted(uint32_t* out) {
    if (threadIdx.x == 0u) out[blockIdx.x / 2u] = blockIdx.x / 2u;
}
