/* What the kernels share: options, and metrics printed as `name value unit`, one a line. */
#ifndef COMMON_H
#define COMMON_H

#include <errno.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The whole number after option `name`, or `otherwise`; ends the program when it is no number from `least`. */
static inline long option(int argc, char **argv, const char *name, long least, long otherwise)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) != 0)
            continue;
        char *end = NULL;
        errno = 0;
        long value = i + 1 < argc ? strtol(argv[i + 1], &end, 10) : 0;
        if (end == NULL || *end != '\0' || end == argv[i + 1] || errno != 0 || value < least) {
            fprintf(stderr, "%s: %s needs a whole number of at least %ld\n", argv[0], name, least);
            MPI_Abort(MPI_COMM_WORLD, 2);
        }
        return value;
    }
    return otherwise;
}

static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        fprintf(stderr, "no memory for %zu times %zu bytes\n", count, size);
        MPI_Abort(MPI_COMM_WORLD, 3);
    }
    return memory;
}

static inline void metric(const char *name, double value, const char *unit)
{
    printf("%s %.9g %s\n", name, value, unit);
}

static inline int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double median(double *values, long count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
