/* Entropic transport plans, compiled once for each instruction set by cpu.c.
 *
 * Needs SET and VL, as cpu_step.h does, which forgets them at its end.
 */

typedef float NAME(numbers) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t NAME(whole) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#define numbers NAME(numbers)
#define whole NAME(whole)
#define LOAD(p) (*(const numbers *)(p))
#define STORE(p, v) (*(numbers *)(p) = (v))

/* e to the power of x, for x from LEAST_EXPONENT to 80, to two units of the last place.
 *
 * x = n ln 2 + r, and a polynomial of r (Moshier's Cephes, expf). Adding 1.5 * 2^23 rounds to whole
 * numbers, and leaves them in the last bits: shifted, they are added to the exponent. */
static inline numbers NAME(power)(numbers x) {
  const numbers rounded = x * 1.44269504f + 12582912.0f;
  const numbers n = rounded - 12582912.0f;
  const numbers r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  numbers p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return (numbers)((whole)p + ((whole)rounded << 23));
}

static inline float NAME(total)(numbers x) {
  float sum = 0;
  for (int i = 0; i < VL; i++) sum += x[i];
  return sum;
}

/* kernel = e to the power of (f + g - cost) / temperature; returns its columns' sums in `over`. */
static void NAME(fill_kernel)(const struct plans *plans, const float *cost, float *kernel,
                              const float *f, const float *g, float scale, float temperature,
                              float *over) {
  const long columns = plans->columns, stride = stride_of(plans);
  const float share = 1 / temperature;
  memset(over, 0, stride * sizeof *over);
  for (long i = 0; i < plans->rows; i++) {
    const float *from = cost + i * columns;
    float *to = kernel + i * stride;
    long j = 0;
    for (; j + VL <= columns; j += VL) {
      numbers x = ((f[i] - LOAD(from + j) * scale) + LOAD(g + j)) * share;
      const whole low = x < LEAST_EXPONENT;
      x = (numbers)((~low & (whole)x) | (low & (whole)((numbers){} + LEAST_EXPONENT)));
      x = NAME(power)(x);
      STORE(to + j, x);
      STORE(over + j, LOAD(over + j) + x);
    }
    for (; j < stride; j++) {
      const float x = j < columns ? ((f[i] - from[j] * scale) + g[j]) * share : 0;
      to[j] = j < columns ? expf(x < LEAST_EXPONENT ? LEAST_EXPONENT : x) : 0;
      over[j] += to[j];
    }
  }
}

/* u = 1 / (rows * kernel v), and over = kernel^T u, in one pass: a row is still in the cache. */
static void NAME(scale_rows)(const struct plans *plans, const float *kernel, float *u,
                             const float *v, float *over) {
  const long rows = plans->rows, stride = stride_of(plans);
  memset(over, 0, stride * sizeof *over);
  for (long i = 0; i < rows; i += 4) {
    const long count = rows - i < 4 ? rows - i : 4;
    const float *row[4];
    numbers sums[4] = {};
    for (long k = 0; k < 4; k++) row[k] = kernel + (i + (k < count ? k : 0)) * stride;
    for (long j = 0; j < stride; j += VL) {
      const numbers beside = LOAD(v + j);
      for (long k = 0; k < 4; k++) sums[k] += LOAD(row[k] + j) * beside;
    }
    float scaled[4] = {};
    for (long k = 0; k < count; k++) {
      const float sum = NAME(total)(sums[k]);
      u[i + k] = scaled[k] = 1.0f / rows / (sum > LEAST_SUM ? sum : LEAST_SUM);
    }
    for (long j = 0; j < stride; j += VL) {
      numbers sum = LOAD(over + j);
      for (long k = 0; k < 4; k++) sum += LOAD(row[k] + j) * scaled[k];
      STORE(over + j, sum);
    }
  }
}

/* One plan; see sinkhorn_plan in plans.py. `memory` has plan_memory(plans) floats. */
static void NAME(make_plan)(const struct plans *plans, const float *cost, float *plan,
                            float *memory) {
  const long rows = plans->rows, columns = plans->columns, stride = stride_of(plans);
  float *kernel = memory, *f = kernel + rows * stride, *u = f + rows;
  float *g = u + rows, *v = g + stride, *over = v + stride;
  double mean = 0;
  for (long i = 0; i < rows; i++) {
    numbers sums = {};
    float sum = 0;
    long j = 0;
    for (; j + VL <= columns; j += VL) sums += LOAD(cost + i * columns + j);
    for (; j < columns; j++) sum += cost[i * columns + j];
    mean += NAME(total)(sums) + sum;
  }
  mean /= (double)rows * columns;
  const float scale = (float)(1 / (mean > LEAST_COST ? mean : LEAST_COST));
  memset(f, 0, (2 * rows + 3 * stride) * sizeof *f);
  for (int stage = 0; stage < STAGES; stage++) {
    const float temperature = plans->temperatures[stage];
    NAME(fill_kernel)(plans, cost, kernel, f, g, scale, temperature, over);
    for (long i = 0; i < rows; i++) u[i] = 1;
    for (long j = 0; j < stride; j++) v[j] = j < columns;
    for (int k = 0; k < plans->iterations[stage]; k++) {
      for (long j = 0; j < columns; j++)
        v[j] = 1.0f / columns / (over[j] > LEAST_SUM ? over[j] : LEAST_SUM);
      NAME(scale_rows)(plans, kernel, u, v, over);
    }
    for (long i = 0; i < rows; i++) f[i] += temperature * logf(u[i]);
    for (long j = 0; j < columns; j++) g[j] += temperature * logf(v[j]);
  }
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < columns; j++) plan[i * columns + j] = kernel[i * stride + j] * u[i] * v[j];
}

#undef numbers
#undef whole
#undef LOAD
#undef STORE
