int elsewhere = 60;
