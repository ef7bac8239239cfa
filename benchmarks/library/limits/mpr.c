/* W2: Montbrio-Pazo-Roxin network with one delay per edge, Heun, deterministic, float32, one thread.
 *
 *   tau r_i' = Delta / (pi tau) + 2 r_i v_i
 *   tau v_i' = v_i^2 + eta + J tau r_i - (pi tau r_i)^2 + I + k sum_j W_ij tau r_j(t - lag_ij)
 *
 * with linear interpolation between the steps, and the start held before time 0. BLOCK steps are made at once: all
 * that they need of the past is there when the shortest lag is at least as long.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 16
#define BLOCK (WINDOW - 1)
#define SOURCES 4 /* taken at once: the sums of a target are loaded and stored once for them */

struct mpr {
    float dt, tau, delta, eta, j, i, k;
};

/* An edge adds now * h(t - lag) + before * h(t - lag - dt), h the past of its source. */
struct edges {
    float *now, *before;
    int *at; /* where its window starts in the past, relative to the present step */
};

/* For every target: the sums of now * window and of before * window. The two are shifted by one step against
 * each other, the same for all edges, so that a window is read once. */
static void gather(int n, const struct edges *e, const float *restrict past, float *restrict sums)
{
    memset(sums, 0, sizeof(float[2 * WINDOW]) * n);
    for (int j = 0; j < n; j += SOURCES)
        for (int i = 0; i < n; i++) {
            size_t first = ((size_t)(j / SOURCES) * n + i) * SOURCES;
            const float *restrict now = e->now + first, *restrict before = e->before + first;
            const int *at = e->at + first;
            const float *restrict p0 = past + at[0], *restrict p1 = past + at[1], *restrict p2 = past + at[2],
                        *restrict p3 = past + at[3];
            float *restrict sum = sums + i * 2 * WINDOW;
            float n0 = now[0], n1 = now[1], n2 = now[2], n3 = now[3];
            float b0 = before[0], b1 = before[1], b2 = before[2], b3 = before[3];
#pragma omp simd
            for (int s = 0; s < WINDOW; s++) {
                sum[s] += (n0 * p0[s] + n1 * p1[s]) + (n2 * p2[s] + n3 * p3[s]);
                sum[WINDOW + s] += (b0 * p0[s] + b1 * p1[s]) + (b2 * p2[s] + b3 * p3[s]);
            }
        }
}

/* r (1 / time unit) after every `keep` steps, (n_steps / keep, region).
 *
 * lags: (region, region), in steps, at least BLOCK; n is a multiple of SOURCES.
 */
void mpr_run(struct mpr m, int n, const float *weights, const double *lags, float r0, float v0, int n_steps, int keep,
             float *kept)
{
    const float pi = 3.14159265f, h = m.dt / m.tau, noise_free = m.delta / pi;
    size_t edges = (size_t)n * n;
    double longest = 0;
    for (size_t e = 0; e < edges; e++) longest = lags[e] > longest ? lags[e] : longest;
    int depth = (int)longest + 2, room = 32 * BLOCK;
    int stride = (depth + room + 15) / 16 * 16;
    if (stride % 32 == 0) stride += 16; /* the pasts of the sources do not share cache sets */

    struct edges e = {malloc(4 * edges), malloc(4 * edges), malloc(4 * edges)};
    float *past = malloc(sizeof(float) * n * stride), *sums = aligned_alloc(64, sizeof(float[2 * WINDOW]) * n);
    float *input = malloc(sizeof(float) * n * (BLOCK + 1)), *fresh = malloc(sizeof(float) * n * BLOCK);
    float *r = malloc(sizeof(float) * n), *v = malloc(sizeof(float) * n);
    for (int i = 0; i < n; i++) {
        r[i] = m.tau * r0, v[i] = v0; /* r counts per tau */
        input[i] = 0;
        for (int t = 0; t < stride; t++) past[i * stride + t] = r[i];
        for (int j = 0; j < n; j++) {
            size_t at = ((size_t)(j / SOURCES) * n + i) * SOURCES + j % SOURCES;
            int whole = (int)lags[i * n + j];
            double part = lags[i * n + j] - whole, w = m.k * weights[i * n + j];
            e.now[at] = (float)((1 - part) * w), e.before[at] = (float)(part * w);
            e.at[at] = j * stride - whole;
            input[i] += (float)w * r[i];
        }
    }
    int present = depth - 1; /* where the newest step is in the past */
    for (int step = 0; step < n_steps; step += BLOCK) {
        int steps = n_steps - step < BLOCK ? n_steps - step : BLOCK;
        if (present + BLOCK >= stride) {
            for (int i = 0; i < n; i++)
                memmove(past + i * stride, past + i * stride + present - depth + 1, sizeof(float) * depth);
            present = depth - 1;
        }
        gather(n, &e, past + present, sums);
        for (int i = 0; i < n; i++)
            for (int s = 0; s < BLOCK; s++)
                input[(s + 1) * n + i] = sums[i * 2 * WINDOW + s + 1] + sums[i * 2 * WINDOW + WINDOW + s];
        for (int s = 0; s < steps; s++) {
            const float *restrict here = input + s * n, *restrict next = here + n;
            float *restrict out = fresh + s * n;
#pragma omp simd
            for (int i = 0; i < n; i++) {
                float base = m.eta + m.i, p = r[i], q = v[i];
                float dp = noise_free + 2 * p * q, dq = q * q + base + m.j * p - pi * pi * p * p + here[i];
                float p1 = p + h * dp, q1 = q + h * dq;
                float dp1 = noise_free + 2 * p1 * q1, dq1 = q1 * q1 + base + m.j * p1 - pi * pi * p1 * p1 + next[i];
                out[i] = r[i] = p + 0.5f * h * (dp + dp1);
                v[i] = q + 0.5f * h * (dq + dq1);
            }
            if ((step + s + 1) % keep == 0)
                for (int i = 0; i < n; i++) kept[(size_t)((step + s + 1) / keep - 1) * n + i] = r[i] / m.tau;
        }
        for (int i = 0; i < n; i++)
            for (int s = 0; s < steps; s++) past[i * stride + present + 1 + s] = fresh[s * n + i];
        memcpy(input, input + steps * n, sizeof(float) * n);
        present += steps;
    }
    free(e.now), free(e.before), free(e.at), free(past), free(sums), free(input), free(fresh), free(r), free(v);
}
