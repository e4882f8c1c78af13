/* Heat equation in a unit cube, u = 0 on its faces: explicit Euler, 7-point stencil, slabs in z with halo exchange.
 * heat [--cells 32] [--steps 100]
 * cells: inner points in each direction; u starts as sin(pi x) sin(pi y) sin(pi z), an eigenvector of the discrete
 * Laplacian. So the discrete solution is known exactly: after k steps it is the start times (1 - 12 r sin^2(pi h / 2))^k,
 * r = dt / h^2 (Morton and Mayers, Numerical Solution of Partial Differential Equations, section 2.7). Fails when
 * the largest difference is over 1e-12, whatever the number of ranks. */
#include "common.h"
#include <math.h>

#define AT(u, z, y, x) (u)[(((z) * (n + 2)) + (y)) * (n + 2) + (x)]

static const double PI = 3.14159265358979323846;

static double start_value(long z, long y, long x, double h)
{
    return sin(PI * h * (double)x) * sin(PI * h * (double)y) * sin(PI * h * (double)z);
}

static void halo(double *u, long n, long mine, int below, int above)
{
    int plane = (int)((n + 2) * (n + 2));
    MPI_Sendrecv(&AT(u, mine, 0, 0), plane, MPI_DOUBLE, above, 0, &AT(u, 0, 0, 0), plane, MPI_DOUBLE, below, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Sendrecv(&AT(u, 1, 0, 0), plane, MPI_DOUBLE, below, 1, &AT(u, mine + 1, 0, 0), plane, MPI_DOUBLE, above, 1,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void step(const double *u, double *next, long n, long mine, double r)
{
    for (long z = 1; z <= mine; z++)
        for (long y = 1; y <= n; y++)
            for (long x = 1; x <= n; x++)
                AT(next, z, y, x) = AT(u, z, y, x)
                    + r * (AT(u, z - 1, y, x) + AT(u, z + 1, y, x) + AT(u, z, y - 1, x) + AT(u, z, y + 1, x)
                           + AT(u, z, y, x - 1) + AT(u, z, y, x + 1) - 6.0 * AT(u, z, y, x));
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    long n = option(argc, argv, "--cells", 1, 32), steps = option(argc, argv, "--steps", 1, 100);
    if (n < ranks) {
        if (rank == 0)
            fprintf(stderr, "heat: %ld planes are too few for %d ranks\n", n, ranks);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    long mine = n / ranks + (rank < n % ranks), before = n / ranks * rank + (rank < n % ranks ? rank : n % ranks);
    int below = rank > 0 ? rank - 1 : MPI_PROC_NULL, above = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;
    double h = 1.0 / (double)(n + 1), r = 1.0 / 8.0;
    size_t size = (size_t)(mine + 2) * (size_t)(n + 2) * (size_t)(n + 2);
    double *u = allocate(size, sizeof *u), *next = allocate(size, sizeof *next);
    for (long z = 1; z <= mine; z++)
        for (long y = 1; y <= n; y++)
            for (long x = 1; x <= n; x++)
                AT(u, z, y, x) = start_value(before + z, y, x, h);
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (long k = 0; k < steps; k++) {
        halo(u, n, mine, below, above);
        step(u, next, n, mine, r);
        double *swapped = u;
        u = next;
        next = swapped;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    double wall_s = MPI_Wtime() - start, half = sin(PI * h / 2);
    double factor = pow(1.0 - 12.0 * r * half * half, (double)steps), error = 0.0, worst;
    for (long z = 1; z <= mine; z++)
        for (long y = 1; y <= n; y++)
            for (long x = 1; x <= n; x++)
                error = fmax(error, fabs(AT(u, z, y, x) - factor * start_value(before + z, y, x, h)));
    MPI_Allreduce(&error, &worst, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0) {
        metric("cells", (double)n, "");
        metric("steps", (double)steps, "");
        metric("max_error", worst, "");
        metric("updates_Mps", (double)n * (double)n * (double)n * (double)steps / wall_s / 1e6, "10^6/s");
        if (!(worst <= 1e-12))
            fprintf(stderr, "heat: differs from the exact solution by %g\n", worst);
    }
    free(u);
    free(next);
    MPI_Finalize();
    return worst <= 1e-12 ? 0 : 1;
}
