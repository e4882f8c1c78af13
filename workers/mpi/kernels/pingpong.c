/* Ping-pong of ranks 0 and 1: latency in microseconds (half of a round trip) and bandwidth in MB/s.
 * pingpong [--bytes 8] [--repeats 1000] [--warmup 100]
 * Prints the median over the repeats; MB is 10^6 bytes. Other ranks wait. */
#include "common.h"

static void exchange(int rank, char *buffer, int bytes)
{
    if (rank == 0) {
        MPI_Send(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
        MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks < 2) {
        fprintf(stderr, "pingpong needs 2 ranks, not %d\n", ranks);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    long bytes = option(argc, argv, "--bytes", 1, 8), repeats = option(argc, argv, "--repeats", 1, 1000);
    long warmup = option(argc, argv, "--warmup", 0, 100);
    char *buffer = allocate((size_t)bytes, 1);
    double *times_s = allocate((size_t)repeats, sizeof *times_s);
    for (long i = 0; i < warmup; i++)
        exchange(rank, buffer, (int)bytes);
    for (long i = 0; i < repeats; i++) {
        double start = MPI_Wtime();
        exchange(rank, buffer, (int)bytes);
        times_s[i] = (MPI_Wtime() - start) / 2;
    }
    if (rank == 0) {
        double one_way_s = median(times_s, repeats);
        metric("bytes", (double)bytes, "");
        metric("latency_us", one_way_s * 1e6, "us");
        metric("bandwidth_MBps", (double)bytes / one_way_s / 1e6, "MB/s");
    }
    free(times_s);
    free(buffer);
    MPI_Finalize();
    return 0;
}
