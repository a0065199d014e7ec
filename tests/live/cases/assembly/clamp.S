/* Several functions in one .text: the assembler resolves the call of `scale`, which is not global. */
        .text
        .globl  clamp
        .type   clamp, @function
clamp:
        .cfi_startproc
        cmp     $100, %rdi
        jg      1f
        call    scale
        add     counter(%rip), %rax
        ret
1:      mov     $-1, %rax
        ret
        .cfi_endproc
        .size   clamp, .-clamp

        .p2align 4
        .type   scale, @function
scale:
        .cfi_startproc
        lea     (%rdi,%rdi,2), %rax
        incq    counter(%rip)
        ret
        .cfi_endproc
        .size   scale, .-scale

        .p2align 4
        .globl  unrelated
        .type   unrelated, @function
unrelated:
        .cfi_startproc
        call    scale
        neg     %rax
        ret
        .cfi_endproc
        .size   unrelated, .-unrelated

        .bss
        .p2align 3
        .type   counter, @object
        .size   counter, 8
counter: .zero  8

        .section .note.GNU-stack, "", @progbits
