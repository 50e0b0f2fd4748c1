/* Draws scenes of flat colour and writes raw frames: sampler SEED FIRST COUNT, 64 x 64 x 3 bytes each.
 *
 * Floor, wall and object have hues of their own, the object one of four outlines and a size, all
 * uniform; nothing is in perspective and nothing is turned. Sample i depends on SEED and i alone.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 64 };

static uint64_t state;

/* splitmix64 (Steele, Lea and Flood 2014) */
static uint64_t next(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(void) { return (double)(next() >> 11) / 9007199254740992.0; }

static void paint(double hue, double light, unsigned char *rgb) {
    for (int channel = 0; channel < 3; channel++) {
        double place = fmod(6 * hue + 6 - 2 * channel, 6);
        double value = fabs(place > 3 ? place - 6 : place);
        value = value < 1 ? 1 : value < 2 ? 2 - value : 0;
        rgb[channel] = (unsigned char)(255 * light * value + 0.5);
    }
}

static int inside(int outline, double x, double y, double size) {
    double ax = fabs(x), ay = fabs(y);
    switch (outline) {
    case 0: return ax < size && ay < size;
    case 1: return ax < 0.8 * size && ay < size;
    case 2: return x * x + y * y < size * size;
    default: {
        double beyond = ay > 0.6 * size ? ay - 0.6 * size : 0;
        return x * x + beyond * beyond < 0.36 * size * size;
    }
    }
}

int main(int argc, char **argv) {
    static unsigned char frame[SIDE][SIDE][3];
    if (argc != 4) {
        fprintf(stderr, "usage: sampler SEED FIRST COUNT\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[1], NULL, 10);
    long long first = atoll(argv[2]), count = atoll(argv[3]);
    for (long long sample = first; sample < first + count; sample++) {
        state = seed * 0xd1342543de82ef95u + (uint64_t)sample;
        next();
        double floor_hue = uniform(), wall_hue = uniform(), object_hue = uniform();
        double size = 9 + 9 * uniform();
        int outline = (int)(next() % 4);
        for (int row = 0; row < SIDE; row++)
            for (int column = 0; column < SIDE; column++) {
                double x = column - 31.5, y = row - 36.0;
                if (inside(outline, x, y, size)) paint(object_hue, 0.9, frame[row][column]);
                else if (row > 40) paint(floor_hue, 0.8, frame[row][column]);
                else paint(wall_hue, 0.7, frame[row][column]);
            }
        if (fwrite(frame, 1, sizeof frame, stdout) != sizeof frame) return 1;
    }
    return 0;
}
