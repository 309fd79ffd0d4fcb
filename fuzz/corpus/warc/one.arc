filedesc://x.arc 0.0.0.0 20080430204825 text/plain 4
abc

http://a.example/ 1.2.3.4 20080430204825 text/html 90
HTTP/1.1 200 OK
Content-Type: text/html

<html><body><p>A small page.</p></body></html>
