// Planted: two threads put their half into one word without an atomic.
extern "C" __global__ void planted(uint32_t* out) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i / 2u] |= (i & 0xffffu) << (16u * (i & 1u));
}
