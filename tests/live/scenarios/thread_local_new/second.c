#include "touch.h"

int shared = 7;
