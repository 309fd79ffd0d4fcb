/* The few calls of MPI that `mpi.rs` needs, with numbers and pointers in place of the handles that
 * each MPI defines for itself. Every function returns MPI's error code, 0 for none. Messages go over
 * a communicator of our own; errors are returned, for the rank that meets one has to say so. */

#include <mpi.h>
#include <stdlib.h>

static MPI_Comm world;

int quipu_mpi_init(int *rank, int *size)
{
    int has = 0, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &has);
    if (code == MPI_SUCCESS && has < MPI_THREAD_SERIALIZED)
        return MPI_ERR_OTHER;
    if (code == MPI_SUCCESS)
        code = MPI_Comm_dup(MPI_COMM_WORLD, &world);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_rank(world, rank);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(world, size);
    return code;
}

int quipu_mpi_finalize(void)
{
    return MPI_Finalize();
}

int quipu_mpi_broadcast(void *bytes, int count)
{
    return MPI_Bcast(bytes, count, MPI_BYTE, 0, world);
}

/* A request is ours until `quipu_mpi_test` finds it done; the bytes must stay where they are. */
int quipu_mpi_send(const void *bytes, int count, int to, int tag, void **request)
{
    MPI_Request *own = malloc(sizeof *own);
    if (!own)
        return MPI_ERR_NO_MEM;
    *request = own;
    return MPI_Isend(bytes, count, MPI_BYTE, to, tag, world, own);
}

int quipu_mpi_receive(void *bytes, int count, int from, int tag, void **request)
{
    MPI_Request *own = malloc(sizeof *own);
    if (!own)
        return MPI_ERR_NO_MEM;
    *request = own;
    return MPI_Irecv(bytes, count, MPI_BYTE, from, tag, world, own);
}

int quipu_mpi_test(void *request, int *done)
{
    int code = MPI_Test(request, done, MPI_STATUS_IGNORE);
    if (code == MPI_SUCCESS && *done)
        free(request);
    return code;
}

/* Whether a message of that tag has come: from whom, and of how many bytes. */
int quipu_mpi_probe(int tag, int *has, int *from, int *count)
{
    MPI_Status status;
    int code = MPI_Iprobe(MPI_ANY_SOURCE, tag, world, has, &status);
    if (code == MPI_SUCCESS && *has) {
        *from = status.MPI_SOURCE;
        code = MPI_Get_count(&status, MPI_BYTE, count);
    }
    return code;
}

int quipu_mpi_error(int code, char *text)
{
    int length = 0;
    MPI_Error_string(code, text, &length);
    return length;
}

int quipu_mpi_longest_error(void)
{
    return MPI_MAX_ERROR_STRING;
}
