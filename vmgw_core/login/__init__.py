"""Login in the browser: OpenID Connect's authorization code flow, and sessions in sealed cookies."""

from .contents import PendingLogin, Session
from .login import CALLBACK, LOGIN, LOGIN_PAGES, LOGIN_SECONDS, LOGOUT, Login, error_code
from .options import build_login, check_login
from .pages import button, link, login_page, redirect
from .provider import DISCOVERY, Provider, read_provider
from .sealing import NONCE_BYTES, CookieKeys
from .sites import is_foreign, is_navigation, is_own_target, is_safe_method, may_use_session

__all__ = [
    "CALLBACK", "DISCOVERY", "LOGIN", "LOGIN_PAGES", "LOGIN_SECONDS", "LOGOUT", "NONCE_BYTES", "CookieKeys", "Login",
    "PendingLogin", "Provider", "Session", "build_login", "button", "check_login", "error_code", "is_foreign",
    "is_navigation", "is_own_target", "is_safe_method", "link", "login_page", "may_use_session", "read_provider",
    "redirect",
]  # fmt: skip
