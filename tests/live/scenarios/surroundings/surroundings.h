#pragma once

// Brings the process into the surroundings of this name: "in", or what went wrong.
const char* enter(const char* name);
