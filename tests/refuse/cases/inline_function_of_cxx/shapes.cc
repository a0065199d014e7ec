// Refusal: comdat-unsupported
struct Shape {
  int side;
  __attribute__((noinline)) int square() const { return side * side; }
};

extern "C" int area(int side) {
  return Shape{side}.square();
}
