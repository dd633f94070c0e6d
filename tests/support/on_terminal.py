"""Takes the terminal on standard input as the controlling one, then becomes the program of its argument."""

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execv(sys.executable, [sys.executable, "-u", "-c", sys.argv[1]])
