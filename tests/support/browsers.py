"""The names of browsers that people use, also those inside other apps, as they send them in `User-Agent`."""

_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_ANDROID = "Mozilla/5.0 (Linux; Android 15; SM-A556E Build/AP3A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0"
_CHROME = "Chrome/138.0.7204.63 Mobile Safari/537.36"

AGENTS = {
    "LINE on iOS": f"{_IPHONE} Mobile/15E148 Safari Line/15.9.0",
    "LINE on Android": f"{_ANDROID} {_CHROME} Line/15.9.0/IAB",
    "LINE on Windows": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138 LINE/9.9.0",
    "Facebook on iOS": f"{_IPHONE} Mobile/22F76 [FBAN/FBIOS;FBAV/512.0.0.41.100;FBBV/7411;FBDV/iPhone14,5;FBMD/iPhone]",
    "Facebook on Android": f"{_ANDROID} {_CHROME} [FB_IAB/FB4A;FBAV/512.0.0.41.100;]",
    "Messenger on iOS": f"{_IPHONE} Mobile/22F76 [FBAN/MessengerForiOS;FBAV/512.0.0.41.100]",
    "Instagram on iOS": f"{_IPHONE} Mobile/22F76 Instagram 390.0.0.28.85 (iPhone14,5; iOS 18_5; th_TH; scale=3.00)",
    "Instagram on Android": f"{_ANDROID} {_CHROME} Instagram 390.0.0.43.81 Android (35/15; 450dpi; 1080x2340; samsung)",
    "TikTok on Android": f"{_ANDROID} {_CHROME} trill_400603 BytedanceWebview/d8a21c6",
    "Telegram on Android": "Mozilla/5.0 (Linux; Android 15; K) Chrome/138 Mobile Telegram-Android/11.13.1",
    "Safari on iOS": f"{_IPHONE} Version/18.5 Mobile/15E148 Safari/604.1",
    "Chrome on iOS": f"{_IPHONE} CriOS/138.0.7204.53 Mobile/15E148 Safari/604.1",
    "Chrome on Android": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) " + _CHROME,
    "Samsung Internet": "Mozilla/5.0 (Linux; Android 10; K) SamsungBrowser/28.0 Chrome/130 Mobile Safari/537.36",
    "Firefox": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
