/* Memory bandwidth of all ranks together: a = b + s * c, after McCalpin's STREAM (https://www.cs.virginia.edu/stream/).
 * triad [--elements 4000000] [--repeats 20]
 * elements: of each array on each rank. MB is 10^6 bytes; three arrays of 8 bytes pass per element. */
#include "common.h"

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    long elements = option(argc, argv, "--elements", 1, 4000000), repeats = option(argc, argv, "--repeats", 1, 20);
    double *a = allocate((size_t)elements, sizeof *a), *b = allocate((size_t)elements, sizeof *b);
    double *c = allocate((size_t)elements, sizeof *c), *times_s = allocate((size_t)repeats, sizeof *times_s);
    for (long i = 0; i < elements; i++) {
        b[i] = (double)i;
        c[i] = 2.0;
    }
    for (long r = 0; r < repeats; r++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        for (long i = 0; i < elements; i++)
            a[i] = b[i] + (double)(r + 1) * c[i];
        MPI_Barrier(MPI_COMM_WORLD);
        times_s[r] = MPI_Wtime() - start;
    }
    int wrong = 0;
    for (long i = 0; i < elements; i++)
        wrong |= a[i] != (double)i + 2.0 * (double)repeats;
    if (wrong)
        fprintf(stderr, "triad: rank %d has wrong values\n", rank);
    if (rank == 0) {
        double bytes = 3.0 * sizeof(double) * (double)elements * ranks;
        metric("elements", (double)elements, "");
        metric("triad_MBps", bytes / median(times_s, repeats) / 1e6, "MB/s");
    }
    MPI_Finalize();
    return wrong;
}
