/* Sum over all ranks: time of MPI_Allreduce in microseconds, and whether the sum is right.
 * allreduce [--count 1] [--repeats 1000] [--warmup 100]
 * Element i of rank r is r + i, so its sum over n ranks is n * i + n * (n - 1) / 2: exact in doubles. */
#include "common.h"

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    long count = option(argc, argv, "--count", 1, 1), repeats = option(argc, argv, "--repeats", 1, 1000);
    long warmup = option(argc, argv, "--warmup", 0, 100);
    double *mine = allocate((size_t)count, sizeof *mine), *sum = allocate((size_t)count, sizeof *sum);
    double *times_s = allocate((size_t)repeats, sizeof *times_s);
    for (long i = 0; i < count; i++)
        mine[i] = (double)rank + (double)i;
    for (long i = -warmup; i < repeats; i++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double start = MPI_Wtime();
        MPI_Allreduce(mine, sum, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        if (i >= 0)
            times_s[i] = MPI_Wtime() - start;
    }
    int wrong = 0;
    for (long i = 0; i < count; i++)
        wrong |= sum[i] != (double)ranks * (double)i + (double)ranks * (ranks - 1) / 2;
    double mine_s = median(times_s, repeats), slowest_s;
    MPI_Reduce(&mine_s, &slowest_s, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        metric("count", (double)count, "");
        metric("allreduce_us", slowest_s * 1e6, "us");
    }
    if (wrong)
        fprintf(stderr, "allreduce: rank %d has a wrong sum\n", rank);
    MPI_Finalize();
    return wrong;
}
