        .text
        .globl  twice
        .type   twice, @function
twice:
        add     %rdi, %rdi
        jmp     finish
        .size   twice, .-twice

        .type   finish, @function
finish:
        mov     %rdi, %rax
        ret
        .size   finish, .-finish

        .section .note.GNU-stack, "", @progbits
