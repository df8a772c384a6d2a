"""Every text of the console, in English and Chinese."""

from collections.abc import Mapping

from twonines.serving.console.people_texts import PEOPLE_TEXTS

LANGUAGES = ("en", "zh")
LANGUAGE_COOKIE = "twonines_language"

TEXTS: dict[str, tuple[str, str]] = {
    # pages
    "inspect": ("Inspect", "检测"),
    "live": ("Live", "实时"),
    "review": ("Review", "复核"),
    "history": ("History", "历史"),
    "models": ("Models", "模型"),
    "data": ("Data", "数据"),
    "teach": ("Teach", "示教"),
    "study": ("Study", "研究"),
    "reports": ("Reports", "报告"),
    # people
    "role_viewer": ("viewer", "查看者"),
    "role_inspector": ("inspector", "检验员"),
    "role_engineer": ("engineer", "工程师"),
    "role_admin": ("admin", "管理员"),
    "refused": ("This page needs the role {role} or higher.", "此页面需要“{role}”或更高的角色。"),
    "refused_title": ("Not with your role", "您的角色无权访问"),
    "logged_in_as": ("You are {name} ({role}).", "当前用户：{name}（{role}）。"),
    "you_may_open": ("You may open:", "您可以打开："),
    "start_page": ("Start page", "首页"),
    "log_out": ("Log out", "退出登录"),
    # verdicts
    "verdict_OK": ("accept", "合格"),
    "verdict_NG": ("not good", "不合格"),
    "verdict_REVIEW": ("a person decides", "由人判定"),
    "verdict_ERROR": ("could not be inspected", "无法检测"),
    # shared
    "none": ("none", "无"),
    "choose_pictures": ("Choose pictures", "选择图片"),
    "choose_folder": ("Choose a folder", "选择文件夹"),
    "too_large": (
        "{name} is empty or larger than {limit} MB and was not taken.",
        "{name} 为空或超过 {limit} MB，未接收。",
    ),
    # facts
    "model": ("Model", "模型"),
    "station": ("Station", "工位"),
    "lot": ("Lot", "批次"),
    "part_id": ("Part", "零件"),
    "file": ("File", "文件"),
    "class": ("Class", "类别"),
    "score": ("Score", "分数"),
    "novelty": ("Novelty", "新颖度"),
    "regions": ("Regions", "区域"),
    "certificate": ("Certificate", "证书"),
    "times_ms": ("Times, ms", "用时（毫秒）"),
    "stage_decode": ("decode", "解码"),
    "stage_resize": ("resize", "缩放"),
    "stage_queue": ("queue", "排队"),
    "stage_compute": ("compute", "计算"),
    "stage_decision": ("decision", "判定"),
    "stage_request": ("whole", "总计"),
    "picture": ("Picture", "图片"),
    "map_and_regions": ("Map and regions", "缺陷图与区域"),
    "reference": ("Reference", "参考图"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "done": ("Done.", "已完成。"),
    "close": ("Close", "关闭"),
    "cancel": ("Cancel", "取消"),
    "go_on": ("Go on", "继续"),
    # models
    "version": ("Version", "版本"),
    "state_active": ("active: answers", "启用中"),
    "state_shadow": ("shadow: compares", "影子比较"),
    "state_loaded": ("loaded", "已加载"),
    "state_available": ("available", "可用"),
    "state_draining": ("finishing", "收尾中"),
    "state_failed": ("failed", "失败"),
    "card": ("Card", "模型卡"),
    "no_card": ("This file has no card that can be read.", "此文件没有可读的模型卡。"),
    "not_measured": ("no metrics on the card", "模型卡上没有指标"),
    "holds": ("holds", "有效"),
    "void": ("does not hold ({why})", "无效（{why}）"),
    "activate": ("Activate", "启用"),
    "activate_sure": (
        "Let {name} {version} answer from now on? You can roll back to the one that does now.",
        "从现在起由 {name} {version} 作答？之后可以回退到当前版本。",
    ),
    "shadow": ("Run as shadow", "作为影子运行"),
    "unload": ("Unload", "卸载"),
    "rollback": ("Roll back to", "回退到"),
    "roll_back": ("Roll back to {version}", "回退到 {version}"),
    "roll_back_sure": ("Let {name} {version} answer again?", "重新由 {name} {version} 作答？"),
    "shadow_of": ("Shadow {shadow} beside {active}", "影子 {shadow} 与 {active} 并行"),
    "compared": ("Compared", "已比较"),
    "shadow_same": ("Same verdict and class", "判定与类别相同"),
    "shadow_verdict": ("Other verdict", "判定不同"),
    "shadow_class": ("Other class", "类别不同"),
    "shadow_error": ("Error", "错误"),
    "shadow_skipped": ("Skipped", "已跳过"),
    "score_shift": ("Score shift, mean / max", "分数差，平均 / 最大"),
    "compare_two": ("Compare two versions", "比较两个版本"),
    "task": ("Task", "任务"),
    "classes": ("Classes", "类别"),
    "recipe": ("Recipe", "方法"),
    "input_size": ("Input (height × width)", "输入尺寸（高 × 宽）"),
    "taught_on": ("Taught on", "示教数据"),
    "test": ("test", "测试"),
    "accepts_below": ("OK below", "低于此分数判 OK"),
    "rejects_from": ("NG from", "达到此分数判 NG"),
    "novelty_limit": ("Novelty limit", "新颖度上限"),
    "compares": ("Compares with a reference", "与参考图比较"),
    "created": ("Created", "创建时间"),
    "digest": ("Digest", "摘要"),
    "metric_accuracy": ("accuracy", "准确率"),
    "metric_balanced_accuracy": ("balanced accuracy", "平衡准确率"),
    "metric_escape_rate": ("escape rate", "漏检率"),
    "metric_overkill_rate": ("overkill rate", "误判率"),
    "metric_review": ("review rate", "复核率"),
    "metric_auroc": ("AUROC", "AUROC"),
    "metric_average_precision": ("average precision", "平均精度"),
    "metric_typing_accuracy": ("typing accuracy", "分类准确率"),
    "waits_for_another": (
        "Proposed: another person must approve it.",
        "已提出：需由另一人批准。",
    ),
    "proposals": ("Waiting for a second person", "等待第二人批准"),
    "proposed_by": ("{verb} {subject}, proposed by {who}", "{verb} {subject}，提出人：{who}"),
    "approve": ("Approve", "批准"),
    "reject": ("Reject", "拒绝"),
    "override_reason": ("Reason for doing it nevertheless", "仍要执行的理由"),
    "do_it_anyway": ("Do it nevertheless", "仍要执行"),
    "regression": (
        "Known escapes: {caught} of {count} are caught.",
        "已知漏检：{count} 例中检出 {caught} 例。",
    ),
    # commands that run beside the service
    "seconds": ("{seconds} s", "{seconds} 秒"),
    "work_done": ("Finished after {seconds} s.", "已完成，用时 {seconds} 秒。"),
    "whole_output": ("Whole output", "完整输出"),
    "step_backbone": ("backbone", "骨干网络"),
    "step_features": ("features", "特征"),
    "step_calibration": ("calibration", "校准"),
    "step_parity": ("parity", "一致性"),
    "step_pictures": ("pictures", "图片"),
    # teach
    "set": ("Set", "数据集"),
    "new_set": ("Name of a new set", "新数据集名称"),
    "make": ("Make", "新建"),
    "make_set_first": (
        "Make a set first, then drop pictures into it.",
        "请先新建数据集，再放入图片。",
    ),
    "classes_of": ("{name}: {count} pictures by class", "{name}：按类别共 {count} 张图片"),
    "count": ("{count} pictures", "{count} 张"),
    "drop_class": ("Drop pictures of {name}", "拖入“{name}”图片"),
    "new_class": ("Name of a new class", "新类别名称"),
    "add_class": ("Add the class", "添加类别"),
    "or_folders": (
        "A dropped folder that bears a class's name goes to that class.",
        "拖入以类别命名的文件夹，图片会归入该类别。",
    ),
    "teach_now": ("Teach a model", "示教模型"),
    "teach_needs": (
        "Needs pictures of two classes, or of good parts alone.",
        "需要两个类别的图片，或仅良品图片。",
    ),
    "compare_active": ("Compare with the active model", "与启用中的模型比较"),
    "comparing": ("Both models inspect the test pictures …", "两个模型正在检测测试图片…"),
    "taught_now": ("taught now", "新示教"),
    "as_model": ("As a version of the model", "作为此模型的版本"),
    "activate_taught_sure": (
        "Add the taught model to {name} as its next version and let it answer?",
        "将新模型作为 {name} 的下一版本并启用？",
    ),
    "escaped_of": ("Escapes of {name}", "{name} 的漏检"),
    # data
    "no_sets": (
        "There is no set yet; make one on the page Teach.",
        "还没有数据集，请在“示教”页面新建。",
    ),
    "empty_set": ("The set is empty.", "数据集为空。"),
    "check": ("Check the set", "检查数据集"),
    "not_checked": ("Not checked yet.", "尚未检查。"),
    "findings": ("Findings", "检查结果"),
    "sound": (
        "Every picture can be read, and no copy stands on both sides of the split.",
        "所有图片均可读取，训练与测试之间没有重复。",
    ),
    "unsound": ("Mend the set before it is taught.", "示教前请先修正数据集。"),
    "count_pictures": ("Pictures", "图片数"),
    "defective_share": ("Defective", "缺陷占比"),
    "imbalance": ("Largest to smallest class", "最大类与最小类之比"),
    "sizes": ("Sizes, height x width", "尺寸（高 x 宽）"),
    "unreadable": ("Cannot be read", "无法读取"),
    "label_conflicts": ("Same picture, different labels", "同图不同标签"),
    "exact_duplicates": ("Exact duplicates", "完全重复"),
    "near_duplicates": ("Look alike", "相似图片"),
    "other_faults": ("Other faults", "其他问题"),
    "browse": ("Browse", "浏览"),
    "move_to": ("Move to {name}", "移到 {name}"),
    "take_out": ("Take out of the set", "移出数据集"),
    # reports
    "make_report": ("Make a report", "生成报告"),
    "measure_speed": ("Measure speed too", "同时测量速度"),
    "report_needs": (
        "A model is tested on the pictures of its own set that it was not taught on.",
        "模型在其自身数据集中未参与示教的图片上测试。",
    ),
    "no_reports": ("There is no report yet.", "还没有报告。"),
    "open": ("Open", "打开"),
    "print": ("Print", "打印"),
    # study
    "new_study": ("Plan a study of manual inspection", "规划人工检验研究"),
    "study_name": ("Name of the study", "研究名称"),
    "plan": ("Plan", "规划"),
    "plan_is_fixed": (
        "Pictures, order, breaks and margin are fixed before anybody looks.",
        "图片、顺序、休息与界值在开始前固定。",
    ),
    "no_studies": ("No study is planned yet.", "还没有研究计划。"),
    "of_them_bad": ("{count}, {bad} of them defective", "{count}，其中 {bad} 张有缺陷"),
    "looks_each": ("Looks at each", "每张查看次数"),
    "drawn_from": ("Drawn from", "抽取自"),
    "from_outside": (
        "Also for tablets in the network: without login, so that whoever reaches this machine can "
        "answer in anybody's name",
        "网络中的平板也可参与：无需登录，能访问本机的任何人都可以他人名义作答",
    ),
    "start_study": ("Open the study page", "开启研究页面"),
    "starting": ("Starting …", "正在启动…"),
    "open_study": ("Study page: {url}", "研究页面：{url}"),
    "stop": ("Stop", "停止"),
    "analyse": ("Analyse", "分析"),
    "study_accuracy": ("Accuracy of people", "人工准确率"),
    "study_escape_rate": ("Escape rate", "漏检率"),
    "study_overkill_rate": ("Overkill rate", "误判率"),
    "study_median_seconds": ("Median seconds", "用时中位数（秒）"),
    "effectiveness": ("effectiveness", "有效性"),
    "kappa_between": ("Kappa between people", "人员间 Kappa"),
    # records
    "time": ("Time, UTC", "时间（UTC）"),
    "line": ("Line", "产线"),
    "verdict": ("Verdict", "判定"),
    "note": ("Note", "备注"),
    "decided": ("Decided", "人工判定"),
    "finding": ("Finding", "反馈"),
    "nothing_found": ("Nothing was found.", "未找到记录。"),
    # review
    "your_name": ("Your name", "您的姓名"),
    "waiting": ("Waiting", "待复核"),
    "done_here": ("Done here", "本次完成"),
    "persons_each": ("Persons for each", "每件所需人数"),
    "agreement": ("Agreement of two", "两人一致率"),
    "found_escapes": ("Escapes found", "发现的漏检"),
    "found_overkills": ("Overkills found", "发现的误判"),
    "nothing_waits": ("Nothing waits for a decision.", "没有待复核的零件。"),
    "look_again": ("Look again", "刷新"),
    "skip": ("Skip", "跳过"),
    "back": ("Back", "上一件"),
    "forward": ("Forward", "下一件"),
    "kind_of_defect": ("Kind of defect, by number", "缺陷类别（按数字键）"),
    "another_person": ("Another person must look at it too.", "还需另一人复核。"),
    # history
    "all": ("all", "全部"),
    "since": ("Since", "起始日期"),
    "search": ("Search", "搜索"),
    "newest": ("the newest {count}", "最新 {count} 条"),
    "newer": ("Newer", "较新"),
    "older": ("Older", "较早"),
    "choose_one": ("Choose an inspection to see it.", "请选择一条检测记录查看。"),
    "escape": ("escape", "漏检"),
    "overkill": ("overkill", "误判"),
    "report": ("Report", "提交"),
    "report_finding": ("Report what was found later", "反馈后续发现"),
    "finding_why": (
        "Its pictures join the regression set: the next model must get them right.",
        "其图片将加入回归集：下一个模型必须判对。",
    ),
    "finding_kept": ("The finding is kept.", "反馈已保存。"),
    # live
    "no_records": (
        "Nothing is recorded: the service was started without a data directory.",
        "未记录数据：服务启动时未指定数据目录。",
    ),
    "is_ready": ("Ready: pictures are inspected.", "就绪：正在检测图片。"),
    "not_ready": ("Not ready: no picture is inspected now.", "未就绪：当前不检测图片。"),
    "records_fine": ("Every inspection is recorded.", "所有检测均已记录。"),
    "no_certificate": ("{name}: no certificate.", "{name}：没有证书。"),
    "certificate_holds": ("{name}: certificate holds.", "{name}：证书有效。"),
    "drift": ("Drift watch {drift} of {limit}.", "漂移监测 {drift} / {limit}。"),
    "per_second": ("Pictures a second", "每秒图片数"),
    "span_hour": ("1 hour", "1 小时"),
    "span_shift": ("8 hours", "8 小时"),
    "span_day": ("24 hours", "24 小时"),
    "span_week": ("7 days", "7 天"),
    "verdicts_over_time": ("Verdicts", "判定趋势"),
    "rates_over_time": ("Rates, percent", "比率（%）"),
    "escapes_reviewed": ("escapes of reviewed OK", "复核 OK 中的漏检"),
    "overkills_reviewed": ("overkills of reviewed NG", "复核 NG 中的误判"),
    "stream": ("Newest inspections", "最新检测"),
    # inspect
    "no_model": ("No model takes pictures now.", "目前没有可用的模型。"),
    "drop_pictures": ("Drop pictures or a folder here", "将图片或文件夹拖到此处"),
    "drop_reference": (
        "Drop the reference here: the same part without defects",
        "将参考图拖到此处：同一零件的无缺陷图片",
    ),
    "stored_reference": ("Stored reference", "已存参考图"),
    "reference_is": ("Reference: {name}", "参考图：{name}"),
    "reference_wanted": (
        "This model compares every picture with a reference. Choose one first.",
        "此模型将每张图片与参考图比较，请先选择参考图。",
    ),
    "inspected": (
        "Inspected on this page, newest first (the last {kept})",
        "本页已检测，最新在前（最近 {kept} 张）",
    ),
    **PEOPLE_TEXTS,
}


class Words:
    """The texts of one language.

    >>> Words("en")("reference_is", name="a.png")
    'Reference: a.png'
    """

    def __init__(self, language: str) -> None:
        """Speak ``language``, one of ``LANGUAGES``."""
        self.language = language
        self._index = LANGUAGES.index(language)

    @classmethod
    def of_browser(cls, cookies: Mapping[str, str], headers: Mapping[str, str]) -> "Words":
        """The language that was chosen, else the browser's first where there is one, or English."""
        wanted = cookies.get(LANGUAGE_COOKIE) or headers.get("accept-language", "")
        code = wanted[:2].lower()
        return cls(code if code in LANGUAGES else LANGUAGES[0])

    def __call__(self, key: str, **values: object) -> str:
        """The text of ``key`` with its values filled in."""
        return TEXTS[key][self._index].format(**values)

    def of(self, key: str) -> str | None:
        """The text of a key that may not be there."""
        return TEXTS[key][self._index] if key in TEXTS else None
