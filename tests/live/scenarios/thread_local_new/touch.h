int touch(void);
