// While connections are still being read, the page shows every five seconds how far that is.
setTimeout(() => location.reload(), 5_000);
