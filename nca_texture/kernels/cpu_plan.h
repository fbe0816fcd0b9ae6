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
static void NAME(fill_kernel)(const struct plans *plans, const float *cost, long ldc,
                              float *kernel, const float *f, const float *g, float scale,
                              float temperature, float *over) {
  const long columns = plans->columns, stride = stride_of(plans);
  const float share = 1 / temperature;
  memset(over, 0, stride * sizeof *over);
  for (long i = 0; i < plans->rows; i++) {
    const float *from = cost + i * ldc;
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

/* One plan, of `cost` with rows of `ldc`; see sinkhorn_plan in plans.py. */
static void NAME(find_plan)(const struct plans *plans, const float *cost, long ldc, float *kernel,
                            float *memory) {
  const long rows = plans->rows, columns = plans->columns, stride = stride_of(plans);
  float *f = memory, *u = f + rows;
  float *g = u + rows, *v = g + stride, *over = v + stride;
  double mean = 0;
  for (long i = 0; i < rows; i++) {
    numbers sums = {};
    float sum = 0;
    long j = 0;
    for (; j + VL <= columns; j += VL) sums += LOAD(cost + i * ldc + j);
    for (; j < columns; j++) sum += cost[i * ldc + j];
    mean += NAME(total)(sums) + sum;
  }
  mean /= (double)rows * columns;
  const float scale = (float)(1 / (mean > LEAST_COST ? mean : LEAST_COST));
  memset(f, 0, (2 * rows + 3 * stride) * sizeof *f);
  for (int stage = 0; stage < STAGES; stage++) {
    const float temperature = plans->temperatures[stage];
    NAME(fill_kernel)(plans, cost, ldc, kernel, f, g, scale, temperature, over);
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
    for (long j = 0; j < stride; j += VL)
      STORE(kernel + i * stride + j, LOAD(kernel + i * stride + j) * u[i] * LOAD(v + j));
}

/* C [rows, columns] = A [rows, inner] B [inner, columns], for four rows and some vectors.
 *
 * Element (i, k) of A is a[i][k * step]. */
#define BLOCK(COLS)                                                                                \
  static inline void NAME(block_##COLS)(long inner, const float *const a[4], long step,            \
                                        const float *b, long ldb, float *c, long ldc, int rows) {  \
    numbers sum[4][COLS] = {};                                                                     \
    for (long k = 0; k < inner; k++) {                                                             \
      UNROLL for (int m = 0; m < 4; m++)                                                           \
        UNROLL for (int n = 0; n < COLS; n++)                                                      \
          sum[m][n] += a[m][k * step] * LOAD(b + k * ldb + n * VL);                                \
    }                                                                                              \
    for (int m = 0; m < rows; m++)                                                                 \
      UNROLL for (int n = 0; n < COLS; n++) STORE(c + m * ldc + n * VL, sum[m][n]);                \
  }

BLOCK(1)
BLOCK(2)
BLOCK(3)

/* The same for all rows, and columns a multiple of VL; element (i, k) of A is a[i * lda + k * step]. */
static void NAME(multiply)(long rows, long inner, long columns, const float *a, long lda, long step,
                           const float *b, long ldb, float *c, long ldc) {
  for (long n = 0; n < columns;) {
    const long left = (columns - n) / VL, wide = left == 4 ? 2 : left < 3 ? left : 3;
    for (long i = 0; i < rows; i += 4) {
      const int count = rows - i < 4 ? (int)(rows - i) : 4;
      const float *at[4];
      for (int m = 0; m < 4; m++) at[m] = a + (i + (m < count ? m : 0)) * lda;
      float *to = c + i * ldc + n;
      if (wide == 3)
        NAME(block_3)(inner, at, step, b + n, ldb, to, ldc, count);
      else if (wide == 2)
        NAME(block_2)(inner, at, step, b + n, ldb, to, ldc, count);
      else
        NAME(block_1)(inner, at, step, b + n, ldb, to, ldc, count);
    }
    n += wide * VL;
  }
}

/* Rows of `width` numbers, filled up with zeros; and what their squares sum to. */
static void NAME(take_rows)(long rows, long width, long wide, const float *from, float *to,
                            float *lengths) {
  for (long i = 0; i < rows; i++) {
    float length = 0;
    for (long k = 0; k < wide; k++) {
      const float x = k < width ? from[i * width + k] : 0;
      to[i * wide + k] = x;
      length += x * x;
    }
    lengths[i] = length;
  }
}

/* Twice the way of each row from what it is moved to: `means`, which are times its share. */
static void NAME(draw_apart)(long rows, long width, long wide, const float *from,
                             const float *means, const float *shares, float *to) {
  for (long i = 0; i < rows; i++)
    for (long k = 0; k < width; k++)
      to[i * width + k] = 2 * (shares[i] * from[i * wide + k] - means[i * wide + k]);
}

/* One transport; see transport in plans.py. `memory` has plan_memory(plans) floats. */
static void NAME(make_transport)(const struct plans *plans, long number, float *memory) {
  const long rows = plans->rows, columns = plans->columns, stride = stride_of(plans);
  const long width = plans->width, wide = wide_of(plans);
  float *kernel = memory, *cost = kernel + rows * stride, *across = cost + rows * stride;
  float *left = across + wide * stride, *right = left + rows * wide, *means = right + stride * wide;
  float *left_lengths = means + (rows > stride ? rows : stride) * wide;
  float *right_lengths = left_lengths + rows, *rest = right_lengths + stride;
  NAME(take_rows)(rows, width, wide, plans->left + number * rows * width, left, left_lengths);
  NAME(take_rows)(columns, width, wide, plans->right + number * columns * width, right, right_lengths);
  for (long k = 0; k < width; k++)
    for (long j = 0; j < stride; j++) across[k * stride + j] = j < columns ? right[j * wide + k] : 0;
  NAME(multiply)(rows, width, stride, left, wide, 1, across, stride, cost, stride);
  for (long i = 0; i < rows; i++)
    for (long j = 0; j < columns; j++) {
      const float apart = left_lengths[i] + right_lengths[j] - 2 * cost[i * stride + j];
      cost[i * stride + j] = apart > 0 ? apart : 0;
    }
  NAME(find_plan)(plans, cost, stride, kernel, rest);
  float *row_sums = rest, *column_sums = row_sums + rows; /* the potentials are not needed any more */
  double all = 0;
  memset(column_sums, 0, stride * sizeof *column_sums);
  for (long i = 0; i < rows; i++) {
    const float *shares = kernel + i * stride, *costs = cost + i * stride;
    numbers sums = {}, paid = {};
    for (long j = 0; j < stride; j += VL) {
      sums += LOAD(shares + j);
      paid += LOAD(shares + j) * LOAD(costs + j);
      STORE(column_sums + j, LOAD(column_sums + j) + LOAD(shares + j));
    }
    row_sums[i] = NAME(total)(sums);
    all += NAME(total)(paid);
  }
  plans->totals[number] = (float)all;
  if (plans->left_gradients) {
    NAME(multiply)(rows, columns, wide, kernel, stride, 1, right, wide, means, wide);
    NAME(draw_apart)(rows, width, wide, left, means, row_sums,
                     plans->left_gradients + number * rows * width);
  }
  if (plans->right_gradients) {
    NAME(multiply)(columns, rows, wide, kernel, 1, stride, left, wide, means, wide);
    NAME(draw_apart)(columns, width, wide, right, means, column_sums,
                     plans->right_gradients + number * columns * width);
  }
}

/* One plan of costs that are there already. */
static void NAME(make_plan)(const struct plans *plans, long number, float *memory) {
  const long rows = plans->rows, columns = plans->columns, stride = stride_of(plans);
  const float *cost = plans->costs + number * rows * columns;
  float *kernel = memory, *plan = plans->plans + number * rows * columns;
  NAME(find_plan)(plans, cost, columns, kernel, kernel + rows * stride);
  for (long i = 0; i < rows; i++)
    memcpy(plan + i * columns, kernel + i * stride, columns * sizeof *plan);
}

#undef numbers
#undef whole
#undef LOAD
#undef STORE
#undef BLOCK
