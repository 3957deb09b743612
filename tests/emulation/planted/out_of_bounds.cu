// Planted: the tail guard lets one thread too many through.
extern "C" __global__ void planted(uint32_t* out, uint32_t count) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= count) out[i] = i;
}
