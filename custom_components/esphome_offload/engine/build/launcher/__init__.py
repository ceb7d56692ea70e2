"""The program that every command runs under; standard library only, imports nothing of ours."""
