/* W5: the network of hopf.c for several sets of k and a at once, SETS of them side by side in a vector.
 *
 * The sets share the connectome and w. Set b draws the noise that hopf_noise(..., set = b) returns.
 */
#include <stdlib.h>

#include "noise.h"

#define N REGIONS
#define SETS 16
#define ROWS 5 /* regions at once: ROWS sums of x and of y stay in registers */
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4)

struct sets {
    float dt, beta, sigma;
    const float *k, *a, *w; /* (set,), (set, region), (region,) */
};

/* w[i / ROWS][j][i % ROWS] is W_ij */
static void products(const float *restrict w, const float (*restrict x)[SETS], const float (*restrict y)[SETS],
                     float (*restrict cx)[SETS], float (*restrict cy)[SETS])
{
    for (int i = 0; i < N; i += ROWS) {
        const float *block = w + i * N;
#pragma omp simd
        for (int b = 0; b < SETS; b++) {
#define START(r) float s##r = 0, t##r = 0;
#define ADD(r) s##r += block[j * ROWS + r] * x[j][b], t##r += block[j * ROWS + r] * y[j][b];
#define STORE(r) cx[i + r][b] = s##r, cy[i + r][b] = t##r;
            EACH_ROW(START)
            for (int j = 0; j < N; j++) { EACH_ROW(ADD) }
            EACH_ROW(STORE)
        }
    }
}

static void run_sets(const struct sets *m, const float *w, const float *strength, const float *x0, const float *y0,
                     enum noise_kind kind, uint32_t seed, int set, int n_steps, int keep, float *kept)
{
    _Alignas(64) float x[N][SETS], y[N][SETS], cx[N][SETS], cy[N][SETS], nx[N][SETS], ny[N][SETS], rate[N][SETS];
    _Alignas(64) float k[SETS];
    float dt = m->dt;
    for (int b = 0; b < SETS; b++) k[b] = m->k[set + b];
    for (int i = 0; i < N; i++)
        for (int b = 0; b < SETS; b++) {
            x[i][b] = x0[i], y[i][b] = y0[i];
            rate[i][b] = m->a[(set + b) * N + i] - k[b] * strength[i];
        }
    for (int step = 1; step <= n_steps; step++) {
        noise_fill(kind, seed, (uint32_t)(step - 1) * N, set, SETS, N * SETS, m->sigma * sqrtf(dt), nx[0], ny[0]);
        products(w, x, y, cx, cy);
        for (int i = 0; i < N; i++) {
            float turn = dt * m->w[i];
#pragma omp simd
            for (int b = 0; b < SETS; b++) {
                float p = x[i][b], q = y[i][b], grow = 1 + dt * (rate[i][b] - m->beta * (p * p + q * q));
                x[i][b] = grow * p - turn * q + dt * k[b] * cx[i][b] + nx[i][b];
                y[i][b] = grow * q + turn * p + dt * k[b] * cy[i][b] + ny[i][b];
            }
        }
        if (step % keep == 0)
            for (int b = 0; b < SETS; b++) {
                float *out = kept + ((size_t)(set + b) * (n_steps / keep) + step / keep - 1) * N;
                for (int i = 0; i < N; i++) out[i] = x[i][b];
            }
    }
}

/* x after every `keep` steps, (set, n_steps / keep, region); n_sets is a multiple of SETS */
void hopf_sets_run(struct sets m, int n_sets, const float *weights, const float *x0, const float *y0, int kind,
                   uint32_t seed, int n_steps, int keep, float *kept)
{
    _Alignas(64) float w[N * N];
    float strength[N] = {0};
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            w[(i - i % ROWS) * N + j * ROWS + i % ROWS] = weights[i * N + j];
            strength[i] += weights[i * N + j];
        }
    for (int set = 0; set < n_sets; set += SETS)
        run_sets(&m, w, strength, x0, y0, kind, seed, set, n_steps, keep, kept);
}
