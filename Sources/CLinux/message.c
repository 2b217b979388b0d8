#define _GNU_SOURCE
#include "message.h"

#include <stdlib.h>

struct clinux_message *clinux_message_create(const void *bytes, size_t length, const int *descriptors, int count) {
    // The bytes lie behind the structure, so that one allocation holds everything the kernel will look at.
    struct clinux_message *message = malloc(sizeof *message + length);
    if (!message) return NULL;
    memcpy(message + 1, bytes, length);
    clinux_message_to_send(message, message + 1, length, descriptors, count);
    return message;
}

void clinux_message_free(struct clinux_message *message) { free(message); }

size_t clinux_message_advance(struct clinux_message *message, size_t sent) {
    message->part.iov_base = (char *)message->part.iov_base + sent;
    message->part.iov_len -= sent;
    message->header.msg_control = NULL;
    message->header.msg_controllen = 0;
    return message->part.iov_len;
}
