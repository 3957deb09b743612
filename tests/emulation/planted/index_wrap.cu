// Planted: a 32-bit thread index over more than 2^32 samples.
extern "C" __global__ void planted(unsigned char* out, unsigned long long count) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = 1;
}
