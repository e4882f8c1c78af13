/* Ping-pong, allreduce and a 1-D-decomposed 2-D heat stencil, checked against the exact solution. */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static double ping_pong(int rank, int size, int rounds) {
    double word = 1.0;
    if (size < 2) return 0.0;
    double start = MPI_Wtime();
    for (int i = 0; i < rounds; i++) {
        if (rank == 0) {
            MPI_Send(&word, 1, MPI_DOUBLE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(&word, 1, MPI_DOUBLE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(&word, 1, MPI_DOUBLE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(&word, 1, MPI_DOUBLE, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / rounds / 2;
}

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    int rank, size;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int n = argc > 1 ? atoi(argv[1]) : 64, steps = argc > 2 ? atoi(argv[2]) : 200;
    if (n < size || steps < 1) MPI_Abort(MPI_COMM_WORLD, 2);
    double latency = ping_pong(rank, size, 1000);
    int own = rank + 1, sum = 0;
    MPI_Allreduce(&own, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    int first = rank * n / size, rows = (rank + 1) * n / size - first, w = n + 2;
    double pi = acos(-1.0), h = 1.0 / (n + 1);
    double *u = calloc((size_t)(rows + 2) * w, sizeof *u), *v = calloc((size_t)(rows + 2) * w, sizeof *v);
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= n; j++) u[i * w + j] = sin(pi * (first + i) * h) * sin(pi * j * h);
    int up = rank ? rank - 1 : MPI_PROC_NULL, down = rank < size - 1 ? rank + 1 : MPI_PROC_NULL;
    double start = MPI_Wtime();
    for (int s = 0; s < steps; s++) {
        MPI_Sendrecv(u + w, w, MPI_DOUBLE, up, 1, u + (rows + 1) * w, w, MPI_DOUBLE, down, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Sendrecv(u + rows * w, w, MPI_DOUBLE, down, 2, u, w, MPI_DOUBLE, up, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = 1; i <= rows; i++)
            for (int j = 1; j <= n; j++) {
                int k = i * w + j;
                v[k] = u[k] + 0.2 * (u[k - 1] + u[k + 1] + u[k - w] + u[k + w] - 4 * u[k]);
            }
        double *t = u; u = v; v = t;
    }
    double wall = MPI_Wtime() - start, decay = exp(-2 * pi * pi * 0.2 * h * h * steps), worst = 0, all;
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= n; j++)
            worst = fmax(worst, fabs(u[i * w + j] - decay * sin(pi * (first + i) * h) * sin(pi * j * h)));
    MPI_Reduce(&worst, &all, 1, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    int wrong = sum != size * (size + 1) / 2;
    if (rank == 0)
        printf("ranks = %d\nallreduce = %d\nerror = %.12e\nlatency = %.3e s\nstencil = %.3e s\n", size, sum, all, latency, wall);
    free(u);
    free(v);
    MPI_Finalize();
    return wrong;
}
