// Refusal: type-layout
#include <stdio.h>
#include <stdlib.h>

struct item {
  int price;
  struct item* next;
};

static struct item* list;

__attribute__((noinline)) void add(int price) {
  struct item* item = malloc(sizeof *item);
  item->price = price;
  item->next = list;
  list = item;
}

__attribute__((noinline)) int total(void) {
  int sum = 0;
  for (struct item* i = list; i; i = i->next) {
    sum += i->price;
  }
  return sum;
}

void probe(const char* request) {
  add(atoi(request));
  printf("%d", total());
}
