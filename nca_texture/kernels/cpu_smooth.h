/* Smoothing of pictures on a torus, compiled once for each instruction set by cpu.c.
 *
 * Needs SET and VL, as cpu_step.h does, which forgets them at its end.
 */

typedef float NAME(pixels) __attribute__((vector_size(VL * 4), aligned(4), may_alias));
#define pixels NAME(pixels)
#define LOAD(p) (*(const pixels *)(p))
/* Weights are of the middle, of its neighbours and of theirs. */
#define TAPS(a, b, c, d, e) (((a) + (e)) * weights[2] + ((b) + (d)) * weights[1] + (c) * weights[0])

/* One picture [height, width]: down into `row`, which has 4 + width numbers, and across. */
static void NAME(smooth)(const float *from, float *to, long height, long width,
                         const float *weights, float *row) {
  const long far = 2 % width, near = 1 % width; /* a picture may be narrower than the filter */
  for (long y = 0; y < height; y++) {
    const float *rows[5];
    for (long k = 0; k < 5; k++) {
      const long at = y + k - 2;
      rows[k] = from + (at < 0 || at >= height ? (at + 2 * height) % height : at) * width;
    }
    float *inside = row + 2, *out = to + y * width;
    long x = 0;
    for (; x + VL <= width; x += VL)
      *(pixels *)(inside + x) = TAPS(LOAD(rows[0] + x), LOAD(rows[1] + x), LOAD(rows[2] + x),
                                     LOAD(rows[3] + x), LOAD(rows[4] + x));
    for (; x < width; x++)
      inside[x] = TAPS(rows[0][x], rows[1][x], rows[2][x], rows[3][x], rows[4][x]);
    row[0] = inside[(width - far) % width], row[1] = inside[(width - near) % width];
    inside[width] = inside[0], inside[width + 1] = inside[near];
    for (x = 0; x + VL <= width; x += VL)
      *(pixels *)(out + x) = TAPS(LOAD(row + x), LOAD(row + x + 1), LOAD(row + x + 2),
                                  LOAD(row + x + 3), LOAD(row + x + 4));
    for (; x < width; x++) out[x] = TAPS(row[x], row[x + 1], row[x + 2], row[x + 3], row[x + 4]);
  }
}

#undef pixels
#undef LOAD
#undef TAPS
