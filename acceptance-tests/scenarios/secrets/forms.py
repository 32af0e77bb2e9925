# Prints a secret ($SECRET) in every form in which programs may show it, one after the other; with an argument as one
# list in JSON.
import base64, json, os, re, shlex, sys, urllib.parse

secret = os.environ["SECRET"]


def lines(text, width):
    return "\n".join(text[at:at + width] for at in range(0, len(text), width))


def encoded(text):
    return base64.b64encode(text.encode()).decode()


of_go = json.dumps(secret, ensure_ascii=False)
for mark in "<>&":
    of_go = of_go.replace(mark, "\\u%04x" % ord(mark))
forms = [
    secret,
    json.dumps(secret),
    json.dumps(json.dumps([secret])),
    of_go,
    repr(secret),
    repr(secret.encode()),
    shlex.quote(secret),
    urllib.parse.quote(secret, safe=""),
    urllib.parse.quote(secret),
    urllib.parse.quote_plus(secret),
    re.sub("%..", lambda byte: byte[0].lower(), urllib.parse.quote(secret)),
    encoded(secret),
    base64.urlsafe_b64encode(secret.encode()).decode(),
    "Authorization: Basic " + encoded("user:" + secret),
]
for text in [secret, secret + "\n", "u:" + secret, "usr:" + secret, "user:" + secret]:
    forms += [lines(encoded(text), 64), lines(encoded(text), 76)]

if sys.argv[1:]:
    print(json.dumps(forms))
else:
    for form in forms:
        print(form)
    print("all forms were shown")
