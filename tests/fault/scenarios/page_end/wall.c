// Behind two(): room for an island.
asm(".pushsection .two,\"ax\",@progbits\n\t.fill 32,1,0xcc\n\t.popsection");
