/* One step and its backward pass, compiled once for each instruction set by cpu.c.
 *
 * Needs, and forgets at its end: SET, the name of this set; VL, floats of a vector; NV, vectors of a
 * block of products, M cells tall (M x NV sums stay in registers); BF16, whether products are of
 * bfloat16 (their sums are float32 all the same): 0, NATIVE or EMULATED.
 *
 * Cells are [batch, height, width, lanes]: channels padded with zeros to a multiple of 16. The cells
 * that fire are gathered into tiles of TILE, and only these pass through the layers: at a fire rate
 * of a half that is half of the work, forward and backward. A row of a tile is summed over k in
 * order, whatever the other rows hold: so a cell's bits depend on nothing but its neighbourhood.
 */

typedef float NAME(vec) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#define vec NAME(vec)
#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))

/* What products multiply: floats, or pairs of bfloat16 that are next to each other in k. */
#if BF16
typedef uint32_t NAME(factor);
typedef uint32_t NAME(factors) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#else
typedef float NAME(factor);
typedef vec NAME(factors);
#endif
#define factor NAME(factor)
#define factors NAME(factors)
#define LOAD_FACTORS(p) (*(const factors *)(p))

/* sum + left * right; of pairs both products are added. */
static inline vec NAME(add_product)(vec sum, factor left, factors right) {
#if BF16 == NATIVE
  return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)left), (__m512bh)right);
#elif BF16 == EMULATED
  const union { uint32_t bits; float value; } odd = {left & 0xffff0000u}, even = {left << 16};
  sum += odd.value * (vec)(right & 0xffff0000u);
  return sum + even.value * (vec)(right << 16);
#else
  return sum + left * right;
#endif
}

#if BF16 == NATIVE

/* Numbers next to each other become pairs: rows of `inner` floats, rows of half as many pairs. */
static void NAME(pair_columns)(long rows, long inner, const float *from, long stride, factor *to,
                               long pairs) {
  for (long t = 0; t < rows; t++)
    for (long k = 0; k < inner; k += 16)
      _mm256_storeu_si256((__m256i *)(to + t * pairs + k / 2),
                          (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + t * stride + k)));
}

/* Numbers below each other become pairs: two rows of floats, one row of as many pairs. */
static void NAME(pair_rows)(long rows, long columns, const float *from, long stride, factor *to) {
  for (long t = 0; t < rows; t += 2)
    for (long n = 0; n < columns; n += 16) {
      const float *at = from + t * stride + n;
      const __m512i low =
          _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(at)));
      const __m512i high =
          _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(at + stride)));
      _mm512_storeu_si512(to + t / 2 * stride + n, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

#elif BF16 == EMULATED

static void NAME(pair_columns)(long rows, long inner, const float *from, long stride, factor *to,
                               long pairs) {
  for (long t = 0; t < rows; t++)
    for (long k = 0; k < inner; k += 2) {
      const float *at = from + t * stride + k;
      to[t * pairs + k / 2] = bfloat16(at[0]) | bfloat16(at[1]) << 16;
    }
}

static void NAME(pair_rows)(long rows, long columns, const float *from, long stride, factor *to) {
  for (long t = 0; t < rows; t += 2)
    for (long n = 0; n < columns; n++) {
      const float *at = from + t * stride + n;
      to[t / 2 * stride + n] = bfloat16(at[0]) | bfloat16(at[stride]) << 16;
    }
}

#endif

/* C[m, n] = init[n] + sum over k of A[m, k] B[k, n] for ROWS rows and COLS vectors of columns. */
#define PRODUCT(ROWS, COLS)                                                                        \
  static void NAME(product_##ROWS##_##COLS)(long inner, const factor *a, long lda,                 \
                                            const factor *b, long ldb, const float *init,          \
                                            float *c, long ldc) {                                  \
    vec sum[ROWS][COLS];                                                                           \
    UNROLL for (int n = 0; n < COLS; n++) {                                                        \
      const vec first = init ? LOAD(init + n * VL) : (vec){0};                                     \
      UNROLL for (int m = 0; m < ROWS; m++) sum[m][n] = first;                                     \
    }                                                                                              \
    for (long k = 0; k < inner; k++) {                                                             \
      factors right[COLS];                                                                         \
      UNROLL for (int n = 0; n < COLS; n++) right[n] = LOAD_FACTORS(b + k * ldb + n * VL);         \
      UNROLL for (int m = 0; m < ROWS; m++) {                                                      \
        const factor left = a[m * lda + k];                                                        \
        UNROLL for (int n = 0; n < COLS; n++)                                                      \
          sum[m][n] = NAME(add_product)(sum[m][n], left, right[n]);                                \
      }                                                                                            \
    }                                                                                              \
    UNROLL for (int m = 0; m < ROWS; m++)                                                          \
      UNROLL for (int n = 0; n < COLS; n++) STORE(c + m * ldc + n * VL, sum[m][n]);                \
  }

/* G[i, n] += sum over t of A[t, i] D[t, n] for M rows i and COLS vectors of columns. */
#define OUTER(COLS)                                                                                \
  static void NAME(outer_##COLS)(long count, const factor *a, long lda, const factor *d, long ldd, \
                                 float *g, long ldg) {                                             \
    vec sum[M][COLS];                                                                              \
    UNROLL for (int i = 0; i < M; i++)                                                             \
      UNROLL for (int n = 0; n < COLS; n++) sum[i][n] = LOAD(g + i * ldg + n * VL);                \
    for (long t = 0; t < count; t++) {                                                             \
      factors right[COLS];                                                                         \
      UNROLL for (int n = 0; n < COLS; n++) right[n] = LOAD_FACTORS(d + t * ldd + n * VL);         \
      UNROLL for (int i = 0; i < M; i++) {                                                         \
        const factor left = a[t * lda + i];                                                        \
        UNROLL for (int n = 0; n < COLS; n++)                                                      \
          sum[i][n] = NAME(add_product)(sum[i][n], left, right[n]);                                \
      }                                                                                            \
    }                                                                                              \
    UNROLL for (int i = 0; i < M; i++)                                                             \
      UNROLL for (int n = 0; n < COLS; n++) STORE(g + i * ldg + n * VL, sum[i][n]);                \
  }

PRODUCT(8, 1)
PRODUCT(4, 2)
PRODUCT(4, 3)
OUTER(1)
OUTER(2)
OUTER(3)
#if NV == 6
PRODUCT(4, 4)
PRODUCT(4, 5)
PRODUCT(4, 6)
OUTER(4)
OUTER(5)
OUTER(6)
#endif

/* C [TILE rows, columns] = init + A [TILE, inner] B [inner, columns]; columns a multiple of VL. */
static void NAME(product)(const struct scratch *s, long inner, const float *left, long lda,
                          const void *right, long ldb, const float *init, float *c, long ldc,
                          long columns) {
  const factor *b = right;
#if BF16
  factor *a = s->pairs;
  const long stride = lda;
  lda = (inner + LANES - 1) / LANES * LANES / 2;
  NAME(pair_columns)(TILE, inner, left, stride, a, lda);
  inner = (inner + 1) / 2;
#else
  const factor *a = left;
  (void)s;
#endif
  for (long n = 0; n < columns;) {
    const long vectors = (columns - n) / VL;
    /* Blocks of even width: 5 vectors are 3 and 2, not 3 and a 1 whose sums wait for each other. */
    const long blocks = (vectors + NV - 1) / NV, take = (vectors + blocks - 1) / blocks;
    const float *from = init ? init + n : NULL;
    switch (take) {
#define CASE(ROWS, COLS)                                                                           \
  case COLS:                                                                                       \
    for (long m = 0; m < TILE; m += ROWS)                                                          \
      NAME(product_##ROWS##_##COLS)(inner, a + m * lda, lda, b + n, ldb, from, c + m * ldc + n, ldc); \
    break;
      CASE(8, 1)
      CASE(4, 2)
      CASE(4, 3)
#if NV == 6
      CASE(4, 4)
      CASE(4, 5)
      CASE(4, 6)
#endif
#undef CASE
    }
    n += take * VL;
  }
}

/* G [rows, columns] += transposed A [count, rows] D [count, columns]; rows a multiple of M. A row
 * of zeros lies after the last. */
static void NAME(outer)(const struct scratch *s, long count, const float *left, long lda,
                        const float *right, long ldd, float *g, long ldg, long rows, long columns) {
#if BF16
  factor *a = s->pairs, *d = s->pairs + TILE / 2 * lda;
  NAME(pair_rows)(count, rows, left, lda, a);
  NAME(pair_rows)(count, columns, right, ldd, d);
  count = (count + 1) / 2;
#else
  const factor *a = left, *d = right;
  (void)s;
#endif
  for (long n = 0; n < columns;) {
    const long vectors = (columns - n) / VL;
    const long blocks = (vectors + NV - 1) / NV, take = (vectors + blocks - 1) / blocks;
    switch (take) {
#define CASE(COLS)                                                                                 \
  case COLS:                                                                                       \
    for (long i = 0; i < rows; i += M)                                                             \
      NAME(outer_##COLS)(count, a + i, lda, d + n, ldd, g + i * ldg + n, ldg);                     \
    break;
      CASE(1)
      CASE(2)
      CASE(3)
#if NV == 6
      CASE(4)
      CASE(5)
      CASE(6)
#endif
#undef CASE
    }
    n += take * VL;
  }
}

/* Vectors of percepts that are summed side by side: sums of one would wait for each other. */
#define PV (VL < LANES ? 2 : 1)

/* Percepts of one cell by COUNT filters; its neighbours are `size` cells from each of `rows` on. Taps
 * of weight zero are not worth a branch. */
#define PERCEIVE(COUNT)                                                                            \
  INLINE void NAME(perceive_##COUNT)(long size, long lanes, long channels, const float *const *rows, \
                                     const float *coefs, float *p) {                               \
    for (long c = lanes - PV * VL; c >= 0; c -= PV * VL) {                                          \
      vec sum[COUNT][PV] = {};                                                                     \
      for (long i = 0; i < size; i++)                                                              \
        for (long j = 0; j < size; j++)                                                            \
          UNROLL for (int v = 0; v < PV; v++) {                                                    \
            const vec value = LOAD(rows[i] + j * lanes + c + v * VL);                              \
            const float *by = coefs + (i * size + j) * lanes + c + v * VL;                         \
            UNROLL for (int f = 0; f < COUNT; f++)                                                 \
              sum[f][v] += LOAD(by + f * size * size * lanes) * value;                             \
          }                                                                                        \
      /* Last vectors and first filters first: lanes beyond the channels are overwritten. */        \
      UNROLL for (int f = 0; f < COUNT; f++)                                                       \
        UNROLL for (int v = 0; v < PV; v++) STORE(p + f * channels + c + v * VL, sum[f][v]);       \
    }                                                                                              \
  }

/* The reverse: what COUNT filters' percepts d ask of the neighbours. */
#define PERCEIVE_BACK(COUNT)                                                                       \
  INLINE void NAME(perceive_back_##COUNT)(long size, long lanes, long channels, float *const *rows, \
                                          const float *coefs, const float *d) {                    \
    for (long c = 0; c < lanes; c += VL) {                                                         \
      vec given[COUNT];                                                                            \
      UNROLL for (int f = 0; f < COUNT; f++) given[f] = LOAD(d + f * channels + c);                \
      for (long i = 0; i < size; i++)                                                              \
        for (long j = 0; j < size; j++) {                                                          \
          float *to = rows[i] + j * lanes + c;                                                     \
          const float *by = coefs + (i * size + j) * lanes + c;                                    \
          vec sum = LOAD(to);                                                                      \
          UNROLL for (int f = 0; f < COUNT; f++)                                                   \
            sum += LOAD(by + f * size * size * lanes) * given[f];                                  \
          STORE(to, sum);                                                                          \
        }                                                                                          \
    }                                                                                              \
  }

PERCEIVE(1)
PERCEIVE(2)
PERCEIVE(3)
PERCEIVE(4)
PERCEIVE_BACK(1)
PERCEIVE_BACK(2)
PERCEIVE_BACK(3)
PERCEIVE_BACK(4)

/* Percepts of one cell into p [filters * channels, and a vector of slack]. */
INLINE void NAME(perceive)(long filters, long size, long lanes, long channels,
                           const float *const *rows, const float *coefs, float *p) {
  for (long left = filters; left > 0; left -= 4) {
    switch (left) {
      case 1: NAME(perceive_1)(size, lanes, channels, rows, coefs, p); break;
      case 2: NAME(perceive_2)(size, lanes, channels, rows, coefs, p); break;
      case 3: NAME(perceive_3)(size, lanes, channels, rows, coefs, p); break;
      default: NAME(perceive_4)(size, lanes, channels, rows, coefs, p);
    }
    coefs += 4 * size * size * lanes;
    p += 4 * channels;
  }
}

INLINE void NAME(perceive_back)(long filters, long size, long lanes, long channels,
                                float *const *rows, const float *coefs, const float *d) {
  for (long left = filters; left > 0; left -= 4) {
    switch (left) {
      case 1: NAME(perceive_back_1)(size, lanes, channels, rows, coefs, d); break;
      case 2: NAME(perceive_back_2)(size, lanes, channels, rows, coefs, d); break;
      case 3: NAME(perceive_back_3)(size, lanes, channels, rows, coefs, d); break;
      default: NAME(perceive_back_4)(size, lanes, channels, rows, coefs, d);
    }
    coefs += 4 * size * size * lanes;
    d += 4 * channels;
  }
}

/* Copy the neighbours of cell (y, x), which is at an edge, to `beside` [size, size, lanes]. */
static void NAME(look_around)(const struct job *job, const float *cells, long y, long x,
                              float *beside) {
  const long size = job->size, lanes = job->lanes, shift = job->radius - size / 2;
  const int32_t *near_rows = job->near_rows + y + shift, *columns = job->near_columns + x + shift;
  for (long i = 0; i < size; i++)
    for (long j = 0; j < size; j++, beside += lanes) {
      const int found = near_rows[i] >= 0 && columns[j] >= 0;
      const long at = found ? near_rows[i] * (long)job->width + columns[j] : 0;
      memcpy(beside, found ? cells + at * lanes : job->zeros, lanes * sizeof(float));
    }
}

/* Where the neighbours of cell (y, x) lie: `size` cells from each of `rows` on, in the grid itself or,
 * when some lie across an edge, in `beside`. */
INLINE void NAME(neighbours)(const struct job *job, const float *cells, long y, long x, long size,
                             long lanes, float *beside, const float **rows) {
  const int32_t *near_rows = job->near_rows + job->radius - size / 2 + y;
  const long width = job->width, left = x - size / 2;
  int inside = left >= 0 && left + size <= width;
  for (long i = 0; i < size; i++) inside &= near_rows[i] >= 0;
  if (!inside) NAME(look_around)(job, cells, y, x, beside);
  for (long i = 0; i < size; i++)
    rows[i] = inside ? cells + (near_rows[i] * width + left) * lanes : beside + i * size * lanes;
}

/* Make of the two gradients of `seen`, what the filters of one cell found, what no turn changes:
 * their norm, or both along and across the direction that the cell's angle gives. */
static inline void NAME(combine)(const struct job *job, const float *cell, const float *seen,
                                 float *p) {
  const long n = job->channels;
  const float *x = seen + n, *y = seen + 2 * n;
  memcpy(p, seen, n * sizeof(float));
  if (job->combine == COMBINE_NORM) {
    for (long i = 0; i < n; i++) p[n + i] = sqrtf(x[i] * x[i] + y[i] * y[i] + LEAST_STEEP);
  } else {
    const float angle = cell[n - job->held - 1], c = cosf(angle), s = sinf(angle);
    for (long i = 0; i < n; i++) {
      p[n + i] = c * x[i] + s * y[i];
      p[2 * n + i] = c * y[i] - s * x[i];
    }
  }
  const long kept = (job->filters - 3) * n;
  memcpy(p + job->percepts - kept, seen + 3 * n, kept * sizeof(float));
}

/* The reverse: what the percepts' gradients d ask of what the filters found, and of the cell. */
static inline void NAME(combine_back)(const struct job *job, const float *cell, const float *seen,
                                      const float *d, float *d_seen, float *d_cell) {
  const long n = job->channels;
  const float *x = seen + n, *y = seen + 2 * n;
  float *d_x = d_seen + n, *d_y = d_seen + 2 * n;
  memcpy(d_seen, d, n * sizeof(float));
  if (job->combine == COMBINE_NORM) {
    for (long i = 0; i < n; i++) {
      const float share = d[n + i] / sqrtf(x[i] * x[i] + y[i] * y[i] + LEAST_STEEP);
      d_x[i] = share * x[i];
      d_y[i] = share * y[i];
    }
  } else {
    const long own = n - job->held - 1;
    const float c = cosf(cell[own]), s = sinf(cell[own]);
    float turn = 0;
    for (long i = 0; i < n; i++) {
      const float along = d[n + i], across = d[2 * n + i];
      d_x[i] = c * along - s * across;
      d_y[i] = s * along + c * across;
      turn += along * (c * y[i] - s * x[i]) - across * (c * x[i] + s * y[i]);
    }
    d_cell[own] += turn;
  }
  const long kept = (job->filters - 3) * n;
  memcpy(d_seen + 3 * n, d + job->percepts - kept, kept * sizeof(float));
}

static void NAME(clamp)(float *values, long count, float least, float most) {
  /* Written so that NaN stays NaN. */
  for (long i = 0; i < count; i++) {
    const float low = values[i] < least ? least : values[i];
    values[i] = low > most ? most : low;
  }
}

/* The columns of row y whose cells fire at `step`: how many, and which. */
static long NAME(firing)(const struct job *job, uint32_t seed, uint32_t step, long y,
                         int32_t *columns, uint32_t *hashes) {
  const long width = job->width;
  if (job->always) {
    for (long x = 0; x < width; x++) columns[x] = (int32_t)x;
    return width;
  }
  const uint32_t row = (uint32_t)job->rows[y];
  for (long x = 0; x < width; x++) hashes[x] = hash((uint32_t)job->columns[x], row, step, seed) >> 8;
  const int32_t *limit = job->limit + (job->limit_map ? y * width : 0);
  long count = 0;
  for (long x = 0; x < width; x++) {
    columns[count] = (int32_t)x;
    count += (int32_t)hashes[x] < limit[job->limit_map ? x : 0];
  }
  return count;
}

/* Percepts, hidden layer and (when asked for) the update of a gathered tile. */
static void NAME(layers)(const struct job *job, struct scratch *s, int with_update) {
  const long inputs = job->inputs;
  if (job->kind == KIND_ABS) {
    const long half = inputs / 2;
    for (long t = 0; t < TILE; t++) {
      float *p = s->percepts + t * job->inputs_stride;
      for (long i = 0; i < half; i++) p[half + i] = fabsf(p[i]);
      for (long i = inputs; i < job->inputs_stride; i++) p[i] = 0;
    }
    NAME(product)(s, inputs, s->percepts, job->inputs_stride, job->in_weight, job->wide, job->in_bias,
                  s->update, job->lanes, job->lanes);
    return;
  }
  NAME(product)(s, inputs, s->percepts, job->inputs_stride, job->in_weight, job->wide, job->in_bias,
                s->hidden, job->wide, job->wide);
  NAME(clamp)(s->hidden, TILE * job->wide, 0, job->hidden_limit);
  if (with_update)
    NAME(product)(s, job->hidden, s->hidden, job->wide, job->out_weight, job->lanes, job->out_bias,
                  s->update, job->lanes, job->lanes);
}

INLINE void NAME(gather_by)(const struct job *job, struct scratch *s, const float *before, long size,
                            long lanes) {
  const long first = job->kind == KIND_ABS ? job->channels : 0, stride = job->inputs_stride;
  const long percepts = job->percepts, channels = job->channels, filters = job->filters;
  for (long t = 0; t < s->count; t++) {
    const long y = s->ys[t], x = s->xs[t];
    const float *cell = before + (y * job->width + x) * lanes, *rows[MOST_SIZE];
    float *p = s->percepts + t * stride;
    float *seen = job->combine ? s->seen + t * seen_stride(job) : p + first;
    NAME(neighbours)(job, before, y, x, size, lanes, s->beside, rows);
    const long bank = job->parities == 2 && job->rows[y] & 1 ? job->bank : 0;
    NAME(perceive)(filters, size, lanes, channels, rows, job->coefs + bank, seen);
    if (job->combine) NAME(combine)(job, cell, seen, p + first);
    if (s->raw) memcpy(s->raw + t * stride, p + first, percepts * sizeof(float));
    if (isfinite(job->percept_limit))
      NAME(clamp)(p + first, percepts, -job->percept_limit, job->percept_limit);
    if (first) memcpy(p, cell, first * sizeof(float));
  }
}

/* Gather the percepts of the cells of a tile; rows that stay empty are zero. */
static void NAME(gather)(const struct job *job, struct scratch *s, const float *before) {
  if (usual(job))
    NAME(gather_by)(job, s, before, USUAL_SIZE, LANES);
  else
    NAME(gather_by)(job, s, before, job->size, job->lanes);
  if (s->count < TILE)
    memset(s->percepts + s->count * job->inputs_stride, 0,
           (TILE - s->count) * job->inputs_stride * sizeof(float));
}

static void NAME(forward_tile)(const struct job *job, struct scratch *s, const float *before,
                               float *after) {
  const long lanes = job->lanes;
  NAME(gather)(job, s, before);
  NAME(layers)(job, s, 1);
  if (isfinite(job->update_limit))
    NAME(clamp)(s->update, s->count * lanes, -job->update_limit, job->update_limit);
  for (long t = 0; t < s->count; t++) {
    const long at = (s->ys[t] * (long)job->width + s->xs[t]) * lanes;
    for (long c = 0; c < lanes; c++) after[at + c] = before[at + c] + s->update[t * lanes + c] * job->dt;
  }
  s->count = 0;
}

/* New states of the rows [y0, y1) of one sample; not yet masked or limited. Where no neighbour is
 * `alive`, when that is given, a cell will be cleared whatever it does: it is passed over. */
static void NAME(forward_strip)(const struct job *job, struct scratch *s, long sample, uint32_t step,
                                const float *before, const uint8_t *alive, float *after, long y0,
                                long y1) {
  const long row = job->width * job->lanes;
  memcpy(after + y0 * row, before + y0 * row, (y1 - y0) * row * sizeof(float));
  s->count = 0;
  for (long y = y0; y < y1; y++) {
    const long found = NAME(firing)(job, job->seeds[sample], step, y, s->columns, s->hashes);
    const uint8_t *near = alive ? near_life(job, s, alive, y) : NULL;
    for (long i = 0; i < found; i++) {
      if (near && !near[s->columns[i]]) continue;
      s->ys[s->count] = (int32_t)y;
      s->xs[s->count++] = s->columns[i];
      if (s->count == TILE) NAME(forward_tile)(job, s, before, after);
    }
  }
  if (s->count) NAME(forward_tile)(job, s, before, after);
  if (isfinite(job->state_limit) && job->living < 0)
    NAME(clamp)(after + y0 * row, (y1 - y0) * row, -job->state_limit, job->state_limit);
}

/* sums [columns] += the rows of `from`, one after the other. */
static void NAME(add_rows)(long count, const float *from, long columns, float *sums) {
  for (long n = 0; n < columns; n += VL) {
    vec sum = LOAD(sums + n);
    for (long t = 0; t < count; t++) sum += LOAD(from + t * columns + n);
    STORE(sums + n, sum);
  }
}

/* Add what is asked of the neighbours of a cell in column x, which is at an edge, from `beside` [size,
 * size, lanes] to where they lie in the rows from `top` on; what lies beyond a zero edge is lost. */
static void NAME(give_around)(const struct job *job, const float *beside, long x, float *top) {
  const long size = job->size, lanes = job->lanes;
  const int32_t *columns = job->near_columns + job->radius - size / 2 + x;
  for (long i = 0; i < size; i++)
    for (long j = 0; j < size; j++, beside += lanes) {
      if (columns[j] < 0) continue;
      float *to = top + (i * job->width + columns[j]) * lanes;
      for (long c = 0; c < lanes; c++) to[c] += beside[c];
    }
}

/* What the gradients of a tile's percepts ask of the cells that were seen, and of the filters. */
INLINE void NAME(scatter_by)(const struct job *job, struct scratch *s, struct sums *sums,
                             const float *before, float *local, long y0, long size, long lanes) {
  const long percepts = job->percepts, channels = job->channels, filters = job->filters;
  const long first = job->kind == KIND_ABS ? job->channels : 0, width = job->width;
  const long shift = job->radius - size / 2;
  for (long t = 0; t < s->count; t++) {
    float *d = s->d_percepts + t * job->inputs_lanes + first, *rows[MOST_SIZE];
    const long y = s->ys[t], x = s->xs[t], left = x - size / 2;
    const int inside = left >= 0 && left + size <= width;
    if (s->raw)
      for (long i = 0; i < percepts; i++)
        if (fabsf(s->raw[t * job->inputs_stride + i]) > job->percept_limit) d[i] = 0;
    if (job->combine) {
      const long at = (y * width + x) * lanes, row = y - y0 + job->radius;
      NAME(combine_back)(job, before + at, s->seen + t * seen_stride(job), d, s->d_seen,
                         local + (row * width + x) * lanes);
      d = s->d_seen;
    }
    const long bank = job->parities == 2 && job->rows[y] & 1 ? job->bank : 0;
    /* Rows beyond the strip stay where they are: which rows they are is settled when strips meet. */
    float *top = local + (y - y0 + shift) * width * lanes;
    for (long i = 0; i < size; i++)
      rows[i] = inside ? top + (i * width + left) * lanes : s->beside + i * size * lanes;
    if (!inside) memset(s->beside, 0, size * size * lanes * sizeof(float));
    NAME(perceive_back)(filters, size, lanes, channels, rows, job->coefs + bank, d);
    if (!inside) NAME(give_around)(job, s->beside, x, top);
    if (!sums->coefs) continue;
    const float *seen[MOST_SIZE];
    NAME(neighbours)(job, before, y, x, size, lanes, s->beside, seen);
    for (long f = 0; f < filters; f++)
      for (long i = 0; i < size; i++)
        for (long j = 0; j < size; j++) {
          float *to = sums->coefs + bank + ((f * size + i) * size + j) * lanes;
          const float *from = seen[i] + j * lanes;
          for (long c = 0; c < channels; c++) to[c] += d[f * channels + c] * from[c];
        }
  }
}

/* Gradients of a tile: into `local`, the rows of a strip and `radius` more on either side, and into
 * the sums of the weights; `gradient` is that of the new state, and in `local` already when
 * `passed` is. */
static void NAME(backward_tile)(const struct job *job, struct scratch *s, struct sums *sums,
                                const float *before, const float *gradient, float *local, long y0,
                                int passed) {
  const long lanes = job->lanes, wide = job->wide, inputs = job->inputs;
  const long stride = job->inputs_stride;
  const long first = job->kind == KIND_ABS ? job->channels : 0;
  NAME(gather)(job, s, before);
  const int limited = isfinite(job->update_limit) || isfinite(job->state_limit);
  NAME(layers)(job, s, limited);
  for (long t = 0; t < s->count; t++) {
    /* What passes the limit of the state goes to the old state; what passes that of the update as
     * well goes on into the layers. */
    const long place = s->ys[t] * (long)job->width + s->xs[t], at = place * lanes;
    float *own = local + ((s->ys[t] - y0 + job->radius) * (long)job->width + s->xs[t]) * lanes;
    float *to = s->d_update + t * lanes;
    const float most = job->update_limit, dt = job->dt;
    if (!limited) {
      for (long c = 0; c < lanes; c += VL) {
        const vec given = LOAD(gradient + at + c);
        if (!passed) STORE(own + c, LOAD(own + c) + given);
        STORE(to + c, given * dt);
      }
      continue;
    }
    for (long c = 0; c < lanes; c++) {
      float given = gradient[at + c];
      const float update = s->update[t * lanes + c];
      const float kept = update < -most ? -most : update > most ? most : update;
      if (fabsf(before[at + c] + kept * dt) > job->state_limit) given = 0;
      if (!passed) own[c] += given;
      to[c] = (fabsf(update) > most ? 0 : given) * dt;
    }
  }
  memset(s->d_update + s->count * lanes, 0, (TILE - s->count) * lanes * sizeof(float));
  NAME(add_rows)(s->count, s->d_update, lanes, sums->out_bias);
  if (job->kind == KIND_ABS) {
    NAME(outer)(s, s->count, s->percepts, stride, s->d_update, lanes, sums->in_weight, lanes,
                job->inputs_rows, lanes);
    NAME(product)(s, job->channels, s->d_update, lanes, job->in_back, job->inputs_lanes, NULL,
                  s->d_percepts, job->inputs_lanes, job->inputs_lanes);
    const long half = inputs / 2;
    for (long t = 0; t < s->count; t++) {
      float *d = s->d_percepts + t * job->inputs_lanes;
      const float *p = s->percepts + t * stride;
      for (long i = 0; i < half; i++) d[i] += p[i] > 0 ? d[half + i] : p[i] < 0 ? -d[half + i] : 0;
      float *own = local + ((s->ys[t] - y0 + job->radius) * (long)job->width + s->xs[t]) * lanes;
      for (long c = 0; c < first; c++) own[c] += d[c];
    }
  } else {
    NAME(outer)(s, s->count, s->d_update, lanes, s->hidden, wide, sums->out_weight, wide,
                job->channels_rows, wide);
    NAME(product)(s, job->channels, s->d_update, lanes, job->out_back, wide, NULL, s->d_hidden, wide,
                  wide);
    const float most = job->hidden_limit;
    for (long i = 0; i < TILE * wide; i++)
      s->d_hidden[i] = s->hidden[i] > 0 && s->hidden[i] < most ? s->d_hidden[i] : 0;
    NAME(add_rows)(s->count, s->d_hidden, wide, sums->in_bias);
    NAME(outer)(s, s->count, s->percepts, stride, s->d_hidden, wide, sums->in_weight, wide,
                job->inputs_rows, wide);
    NAME(product)(s, job->hidden, s->d_hidden, wide, job->in_back, job->inputs_lanes, NULL,
                  s->d_percepts, job->inputs_lanes, job->inputs_lanes);
  }
  if (usual(job))
    NAME(scatter_by)(job, s, sums, before, local, y0, USUAL_SIZE, LANES);
  else
    NAME(scatter_by)(job, s, sums, before, local, y0, job->size, lanes);
  s->count = 0;
}

/* Gradients of the rows [y0, y1) of one sample, from `gradient`, that of the new state. */
static void NAME(backward_strip)(const struct job *job, struct scratch *s, struct sums *sums,
                                 long sample, uint32_t step, const float *before,
                                 const uint8_t *alive, const float *gradient, float *local, long y0,
                                 long y1) {
  const long lanes = job->lanes, width = job->width, row = width * lanes;
  const long mortal = job->channels - job->held, margin = job->radius * row;
  const int passed = passes_all(job, alive);
  memset(local, 0, margin * sizeof(float));
  memset(local + margin + (y1 - y0) * row, 0, margin * sizeof(float));
  if (passed)
    memcpy(local + margin, gradient + y0 * row, (y1 - y0) * row * sizeof(float));
  else
    memset(local + margin, 0, (y1 - y0) * row * sizeof(float));
  s->count = 0;
  for (long y = y0; y < y1; y++) {
    const long found = NAME(firing)(job, job->seeds[sample], step, y, s->columns, s->hashes);
    for (long x = 0, next = 0; x < width; x++) {
      if (passed) { /* only those that fire have more to give */
        if (next == found) break;
        x = s->columns[next];
      }
      const int fires = next < found && s->columns[next] == x;
      const int dead = alive && !alive[y * width + x]; /* nothing reaches its update */
      if (fires) next++;
      if (fires && !dead) {
        s->ys[s->count] = (int32_t)y;
        s->xs[s->count++] = (int32_t)x;
        if (s->count == TILE)
          NAME(backward_tile)(job, s, sums, before, gradient, local, y0, passed);
      } else {
        const long from = dead ? mortal : 0, to = dead ? job->channels : lanes;
        const long at = (y * width + x) * lanes;
        float *own = local + ((y - y0 + job->radius) * width + x) * lanes;
        for (long c = from; c < to; c++)
          if (!(fabsf(before[at + c]) > job->state_limit)) own[c] += gradient[at + c];
      }
    }
  }
  if (s->count) NAME(backward_tile)(job, s, sums, before, gradient, local, y0, passed);
}

#undef vec
#undef factor
#undef factors
#undef LOAD
#undef STORE
#undef LOAD_FACTORS
#undef PRODUCT
#undef PERCEIVE
#undef PERCEIVE_BACK
#undef OUTER
#undef SET
#undef VL
#undef NV
#undef PV
#undef BF16
