#pragma once

#include "CLinux.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/// All that sendmsg and recvmsg point to, in one place, so that it can live as long as the call.
struct clinux_message {
    struct msghdr header;
    struct iovec part;
    union {
        struct cmsghdr alignment;
        char bytes[CMSG_SPACE(CLINUX_MESSAGE_DESCRIPTORS * sizeof(int))];
    } control;
};

static inline void clinux_message_to_send(
    struct clinux_message *message, const void *bytes, size_t length, const int *descriptors, int count) {
    memset(message, 0, sizeof *message);
    message->part = (struct iovec){.iov_base = (void *)bytes, .iov_len = length};
    message->header.msg_iov = &message->part;
    message->header.msg_iovlen = 1;
    if (count == 0) return;
    size_t data = (size_t)count * sizeof(int);
    message->header.msg_control = message->control.bytes;
    message->header.msg_controllen = CMSG_SPACE(data);
    struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(data);
    memcpy(CMSG_DATA(control), descriptors, data);
}
