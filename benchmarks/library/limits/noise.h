/* Unit-variance draws from a counter-based generator: threefry-2x32 with 13 rounds (Salmon et al. 2011).
 *
 * The draws of (step, region, set) are a pure function of these and of the seed. The two words of a counter make
 * the draws of the two state variables of a region.
 */
#ifndef NOISE_H
#define NOISE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum noise_kind { NOISE_NONE, NOISE_GAUSSIAN, NOISE_WEAK };

static inline uint32_t rotate(uint32_t x, int by) { return (x << by) | (x >> (32 - by)); }

static inline void threefry_2x32_13(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t *w0, uint32_t *w1)
{
    uint32_t k2 = 0x1BD11BDAu ^ k0 ^ k1, a = c0 + k0, b = c1 + k1;
#define ROUND(by) a += b, b = rotate(b, by) ^ a
    ROUND(13), ROUND(15), ROUND(26), ROUND(6);
    a += k1, b += k2 + 1;
    ROUND(17), ROUND(29), ROUND(16), ROUND(24);
    a += k2, b += k0 + 2;
    ROUND(13), ROUND(15), ROUND(26), ROUND(6);
    a += k0, b += k1 + 3;
    ROUND(17);
#undef ROUND
    *w0 = a, *w1 = b;
}

/* log(k / 2^24) for k in [1, 2^24): exponent, and a minimax polynomial of log(1 + z) / z (relative error 2e-7).
 * Always below 0: close to 2^24 the exponent leaves exactly 0. */
static inline float log_of_fraction(uint32_t k)
{
    float f = (float)(int32_t)k;
    int32_t bits, exponent;
    memcpy(&bits, &f, 4);
    exponent = (bits - 0x3F3504F3) >> 23; /* leaves a mantissa in [sqrt(1/2), sqrt(2)) */
    bits -= exponent << 23;
    memcpy(&f, &bits, 4);
    float z = f - 1.0f, p = -0.10106891f;
    p = p * z + 0.16222579f;
    p = p * z - 0.1725083f;
    p = p * z + 0.19900166f;
    p = p * z - 0.24969909f;
    p = p * z + 0.33335059f;
    p = p * z - 0.50000365f;
    p = p * z + 0.99999995f;
    return (float)(exponent - 24) * 0.69314718f + p * z;
}

/* Box and Muller (1958); the angle stays within a half turn, and one bit adds the other half */
static inline void gaussian_pair(uint32_t w0, uint32_t w1, float *x, float *y)
{
    float radius = sqrtf(-2.0f * log_of_fraction((w0 >> 8) | 1)); /* uniform on the odd numbers: never 0 or 1 */
    float v = (float)(int32_t)w1 * 2.3283064e-10f, q = v * v;     /* half turns, in [-1/2, 1/2] */
    float s = 0.07765941f, c = 0.2196968f;                        /* minimax, error below 5e-8 */
    s = s * q - 0.59829216f;
    s = s * q + 2.55007766f;
    s = s * q - 5.16771009f;
    s = (s * q + 3.14159264f) * v;
    c = c * q - 1.33188016f;
    c = c * q + 4.05841191f;
    c = c * q - 4.93479286f;
    c = c * q + 0.99999995f;
    float turned = (w1 & 1) ? -radius : radius;
    *x = turned * c, *y = turned * s;
}

/* Binomial(32, 1/2), centred, of variance 1 */
static inline float weak(uint32_t w) { return (float)(__builtin_popcount(w) - 16) * 0.35355339f; }

/* n draws for x and for y, times `scale`. Draw l has the counter first + l / sets and the set l % sets after
 * `set`; `sets` is a constant power of two, so that the loop is one of vectors. */
static inline void noise_fill(enum noise_kind kind, uint32_t seed, uint32_t first, uint32_t set, uint32_t sets,
                              uint32_t n, float scale, float *restrict x, float *restrict y)
{
    uint32_t w0, w1;
    if (kind == NOISE_GAUSSIAN) {
#pragma omp simd private(w0, w1)
        for (uint32_t l = 0; l < n; l++) {
            float a, b;
            threefry_2x32_13(seed, 0, first + l / sets, set + l % sets, &w0, &w1);
            gaussian_pair(w0, w1, &a, &b);
            x[l] = scale * a, y[l] = scale * b;
        }
    } else if (kind == NOISE_WEAK) {
#pragma omp simd private(w0, w1)
        for (uint32_t l = 0; l < n; l++) {
            threefry_2x32_13(seed, 0, first + l / sets, set + l % sets, &w0, &w1);
            x[l] = scale * weak(w0), y[l] = scale * weak(w1);
        }
    } else {
        memset(x, 0, n * sizeof *x);
        memset(y, 0, n * sizeof *y);
    }
}

#endif
