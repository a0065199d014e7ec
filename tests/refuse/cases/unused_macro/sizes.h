#define SMALL 10
