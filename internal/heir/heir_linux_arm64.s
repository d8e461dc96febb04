#include "textflag.h"

// func clone(flags uintptr, first, last *[4]uintptr) (pid uintptr)
//
// The child shares the stack, too: it must not touch it.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVD flags+0(FP), R0
	MOVD first+8(FP), R19
	MOVD last+16(FP), R20
	MOVD ZR, R1
	MOVD ZR, R2
	MOVD ZR, R3
	MOVD ZR, R4
	MOVD $220, R8 // clone
	SVC
	CBZ  R0, next
	MOVD R0, pid+24(FP)
	RET

next:
	MOVD 0(R19), R8
	MOVD 8(R19), R0
	MOVD 16(R19), R1
	MOVD 24(R19), R2
	MOVD ZR, R3
	MOVD ZR, R4
	SVC
	CMP  $0, R0
	BLT  end
	ADD  $32, R19
	CMP  R20, R19
	BLS  next

end:
	MOVD ZR, R0
	MOVD $94, R8 // exit_group
	SVC
	B    end
