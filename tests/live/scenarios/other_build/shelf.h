int shelf(int pieces);
