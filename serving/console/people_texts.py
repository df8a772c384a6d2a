"""Texts of the page People, in English and Chinese."""

PEOPLE_TEXTS: dict[str, tuple[str, str]] = {
    "people": ("People", "人员"),
    "my_account": ("My account", "我的账户"),
    "name": ("Name", "用户名"),
    "role": ("Role", "角色"),
    "tenant": ("Tenant", "租户"),
    "no_login_here": (
        "Nobody logs in here: whoever uses this service is {name}.",
        "此处无需登录：使用本服务者即为 {name}。",
    ),
    "first_user": (
        "Once there is a user, everybody must log in; so make an admin first.",
        "一旦有了用户，所有人都必须登录；因此请先创建管理员。",
    ),
    "came_with_key": (
        "You came with the API key {name}, which has no password.",
        "您使用 API 密钥 {name} 访问，密钥没有密码。",
    ),
    "change_password": ("Change the password", "修改密码"),
    "old_password": ("Password of now", "当前密码"),
    "new_password": ("New password (min. {least})", "新密码（至少 {least} 位）"),
    "password_again": ("New password again", "再次输入新密码"),
    "passwords_differ": ("The two new passwords differ.", "两次输入的新密码不一致。"),
    "password_ends_logins": (
        "All logins of {name} end, on every machine.",
        "{name} 在所有设备上的登录都将结束。",
    ),
    # users
    "users": ("Users", "用户"),
    "may_log_in": ("may log in", "可以登录"),
    "is_disabled": ("disabled", "已停用"),
    "add_user": ("Add a user", "添加用户"),
    "add": ("Add", "添加"),
    "user_added": ("The user is added.", "用户已添加。"),
    "give_role": ("Role of {name}", "{name} 的角色"),
    "password_is_new": ("The password of {name} is new.", "{name} 的密码已更新。"),
    "disable": ("Disable", "停用"),
    "disable_sure": (
        "Let {name} in no more? Every login of {name} ends at once.",
        "停用 {name}？{name} 的所有登录将立即结束。",
    ),
    "enable": ("Enable", "启用账户"),
    "reset_password": ("Reset the password", "重置密码"),
    "reset_of": ("New password for {name}", "{name} 的新密码"),
    "only_by_shell": (
        "This service wants two persons for a change. So nobody makes a user here, sets another's "
        "password, gives a higher role or enables a user: use `twonines users add`, `passwd`, "
        "`role` and `disable --undo` on the service's machine.",
        "本服务的变更需要两人确认，因此不能在此创建用户、设置他人密码、提升角色或重新启用用户："
        "请在服务所在机器上使用 `twonines users add`、`passwd`、`role` 和 `disable --undo`。",
    ),
    # keys
    "keys": ("API keys for programs", "程序用 API 密钥"),
    "no_keys": ("There is no key yet.", "还没有密钥。"),
    "label": ("What it is for", "用途"),
    "images_per_minute": ("Pictures a minute", "每分钟图片数"),
    "images_per_day": ("Pictures a day", "每天图片数"),
    "compute_s_per_day": ("Model seconds a day", "每天模型用时（秒）"),
    "no_limit_if_empty": (
        "A limit that is left empty is none. Days are those of UTC.",
        "留空表示不限。日期按 UTC 计算。",
    ),
    "unlimited": ("no limits", "不限"),
    "make_key": ("Make a key", "创建密钥"),
    "key_made": ("The new key {prefix}", "新密钥 {prefix}"),
    "shown_once": (
        "It is shown only now, for only its digest is kept. Copy it to where it is used.",
        "密钥仅在此时显示，系统只保存其摘要。请立即复制到使用处。",
    ),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    "revoke": ("Revoke", "吊销"),
    "revoke_sure": (
        "Let the key {label} ({prefix}) in no more? A program that uses it is refused at once.",
        "吊销密钥 {label}（{prefix}）？使用它的程序将立即被拒绝。",
    ),
    "is_revoked": ("revoked {when}", "已于 {when} 吊销"),
    "is_valid": ("valid", "有效"),
    # usage
    "usage": ("Usage in {month}", "{month} 用量"),
    "no_usage": ("Nothing was used this month.", "本月没有用量。"),
    "actor": ("Who", "使用者"),
    "requests": ("Requests", "请求"),
    "images": ("Pictures", "图片"),
    "compute_s": ("Model, s", "模型用时（秒）"),
    "download_csv": ("Download as CSV, by day", "下载 CSV（按日）"),
}
