#include "textflag.h"

// func clone(flags uintptr, first, last *[4]uintptr) (pid uintptr)
//
// The child shares the stack, too: it must not touch it.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVQ flags+0(FP), DI
	MOVQ first+8(FP), R12
	MOVQ last+16(FP), R13
	XORL SI, SI
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ  next
	MOVQ AX, pid+24(FP)
	RET

next:
	MOVQ 0(R12), AX
	MOVQ 8(R12), DI
	MOVQ 16(R12), SI
	MOVQ 24(R12), DX
	XORL R10, R10
	XORL R8, R8
	SYSCALL
	TESTQ AX, AX
	JLT  end
	ADDQ $32, R12
	CMPQ R12, R13
	JLS  next

end:
	XORL DI, DI
	MOVL $231, AX // exit_group
	SYSCALL
	JMP  end
